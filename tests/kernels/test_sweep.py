"""Sweeps of all operations over time on every tier: against the reference in float64, and bit for bit."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache, partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from engine.config import BASE, LARGE, Config
from engine.diffusion.embedding import step_biases
from engine.diffusion.noise import normal
from engine.diffusion.schedule import Schedule, build_schedule
from engine.kernels import reference
from engine.sampling.cpu.pipeline import StepPipeline
from engine.sampling.item import Item
from tests.support.networks import SMALL, SMALL_UNCONDITIONAL
from tests.support.running import audio_of, evaluated, run
from tests.support.targets import exact, float64, network, packed, targets, weights
from tests.support.tolerances import TOLERANCES, relative_error

pytestmark = pytest.mark.usefixtures("one_torch_thread")

TARGETS = targets()
WITH_ARM = targets(arm=True)  # for tests that are fast enough for the emulator
ODD = replace(SMALL, residual_channels=16, n_mels=79, upsample_strides=(4, 8))


def training(count: int) -> tuple[float, ...]:
    return tuple(np.linspace(1e-4, 0.05, count).tolist())


def normal_values(rng, *shape):
    return rng.standard_normal(shape, np.float32)


@dataclass(frozen=True, eq=False)
class Case:
    """One item, its schedule and the exact results."""

    config: Config
    plan: Schedule
    mel: np.ndarray | None
    x: np.ndarray
    z: np.ndarray
    std: np.ndarray | None
    d: np.ndarray

    def item(self, **changes) -> Item:
        return replace(Item(len(self.x), self.mel, x=self.x, noise=self.z, scale=self.std), **changes)

    def eps(self):
        x, mel = float64(self.x), float64(self.mel)
        return reference.predict_noise(exact(self.config), self.config, x, self.plan.t[0], mel)[0]

    def audio(self):
        z = torch.tensor(self.z).double()[:, None]
        arguments = float64(self.mel), self.plan, float64(self.x), z, float64(self.std)
        return reference.sample(exact(self.config), self.config, *arguments)[0]


@cache
def case(config: Config, size: int, steps: int | str = 6) -> Case:
    """Return a case of ``size`` frames, or samples for an unconditional network."""
    rng, plan, length = np.random.default_rng(size), build_schedule(config, steps), size * config.hop
    return Case(
        config,
        plan,
        mel=rng.random((config.n_mels, size), np.float32) if config.n_mels else None,
        x=normal_values(rng, length),
        z=normal_values(rng, len(plan) - 1, length),
        std=rng.uniform(0.1, 1.0, length).astype(np.float32) if config.prior else None,
        d=step_biases(weights(config), config, plan.t),
    )


@cache
def expected(config: Config, size: int, steps: int | str):
    example = case(config, size, steps)
    return example.eps(), example.audio()


REFLECT = {"padding": "reflect"}
SWEEPS = {
    "base": (BASE, 4, 6),
    "large": (replace(LARGE, residual_layers=6, dilation_cycle=3), 3, 6),
    "80 bands": (SMALL, 7, 6),
    "79 bands": (ODD, 31, 6),
    "100 bands": (replace(SMALL, residual_channels=48, n_mels=100, upsample_strides=(2, 2, 4)), 60, 6),
    "one stage": (replace(SMALL, residual_channels=80, n_mels=33, upsample_strides=(16,)), 60, 6),
    "2 sweeps": (replace(SMALL, train_schedule=training(8)), 5, "full"),
    "3 sweeps": (replace(SMALL, train_schedule=training(13)), 5, "full"),
    "3 sweeps, no mel": (replace(SMALL_UNCONDITIONAL, train_schedule=training(13)), 1111, "full"),
    "one step": (replace(SMALL, train_schedule=(0.1,)), 3, "full"),
    "reflect": (replace(ODD, **REFLECT), 31, 6),
    "reflect, 2 sweeps": (replace(SMALL_UNCONDITIONAL, train_schedule=training(8), **REFLECT), 301, "full"),
    "reflect, shortest": (replace(SMALL_UNCONDITIONAL, **REFLECT), 17, 6),
    "an upsampler per layer": (replace(ODD, shared_upsampler=False), 31, 6),
    "prior": (replace(SMALL, prior=True), 3, 6),
    "hop 300": (replace(SMALL, n_mels=20, upsample_strides=(15, 20)), 5, 6),
    "hop 441": (replace(SMALL, n_mels=20, upsample_strides=(21, 21)), 3, 6),
    "hop 15, reflect": (replace(ODD, upsample_strides=(3, 5), shared_upsampler=False, **REFLECT), 31, 6),
    "20 channels": (replace(ODD, residual_channels=20), 31, 6),
    "72 channels, no mel": (replace(SMALL_UNCONDITIONAL, residual_channels=72), 333, 6),
    **{f"{length} samples": (SMALL_UNCONDITIONAL, length, 6) for length in (1, 2, 5, 11, 12, 13, 95, 97, 200)},
}


LARGE_SWEEPS = ("base", "large")  # slow tests of the slowest tier


@pytest.mark.parametrize(
    ("isa", "precision", "name"),
    [
        pytest.param(
            *target.values,
            name,
            id=f"{target.id}-{name}",
            marks=[*target.marks, *[pytest.mark.slow] * (target.values[0] == "generic" and name in LARGE_SWEEPS)],
        )
        for target in WITH_ARM
        for name in SWEEPS
    ],
)
def test_sweeps_match_the_reference(isa, precision, name):
    example, net = case(*SWEEPS[name]), network(SWEEPS[name][0], isa, precision)
    eps, audio = expected(*SWEEPS[name])
    got = evaluated(net, example.x, example.mel, example.d[:1], threads=2)
    assert relative_error(got, eps) < TOLERANCES[f"network_eps_{precision}"]
    got = audio_of(net, example.item(), example.plan, example.d, threads=2)
    assert relative_error(got, audio) < TOLERANCES[f"network_audio_{precision}"]


@pytest.mark.slow
@pytest.mark.parametrize("size", ["base", "large"])
@pytest.mark.parametrize(("isa", "precision"), targets())
def test_the_whole_training_schedule_matches_the_reference(isa, precision, size):
    """BASE has 50 steps in 9 sweeps, LARGE 200 steps in 34 sweeps."""
    config, frames = {"base": (BASE, 2), "large": (replace(LARGE, dilation_cycle=5), 1)}[size]
    example, net = case(config, frames, "full"), network(config, isa, precision)
    got = audio_of(net, example.item(), example.plan, example.d, threads=2)
    assert relative_error(got, expected(config, frames, "full")[1]) < TOLERANCES[f"network_audio_{precision}"]


def tiled_like(net, rows):
    """Return the network with another tile."""
    tiled = SimpleNamespace(config=net.config, normal=net.normal, sweep_bytes=net.sweep_bytes)
    tiled.sweep = partial(net.sweep, rows=rows)
    return tiled


def sampled(net, example, threads=1, **changes):
    return audio_of(net, example.item(**changes), example.plan, example.d, threads).tobytes()


@pytest.mark.parametrize("name", ["80 bands", "3 sweeps", "3 sweeps, no mel", "prior"])
@pytest.mark.parametrize(("isa", "precision"), WITH_ARM)
def test_a_seed_gives_the_noise_of_its_definition(isa, precision, name):
    """Step n adds normal(seed, n + 1), in every sweep."""
    example, net, seed = case(*SWEEPS[name]), network(SWEEPS[name][0], isa, precision), 2**40 + 5
    noise = np.stack([normal(seed, n + 1, 0, len(example.x)) for n in range(len(example.plan) - 1)])
    assert sampled(net, example, noise=None, seed=seed) == sampled(net, example, noise=noise)
    assert sampled(net, example, noise=None, seed=seed) != sampled(net, example, noise=None, seed=seed + 1)


@pytest.mark.parametrize(("isa", "precision"), WITH_ARM)
def test_one_step_matches_noise_update(isa, precision):
    example, net = case(*SWEEPS["80 bands"]), network(SMALL, isa, precision)
    eps = evaluated(net, example.x, example.mel, example.d[:1])
    a, b, sigma = np.float32([0.75, -1.25, 0.5])
    for clamp in (False, True):
        x = example.x.copy()
        terms = np.array([[a, b, sigma]])
        sweep = net.sweep(np.float32(example.d[:1]), terms, clamp=clamp, threads=1, length=len(x))
        sweep.bind(x, mel=example.mel, noise=example.z[:1])
        run(sweep, 1, len(x), example.config)
        unlimited = a * example.x + b * eps + sigma * example.z[0]
        assert np.abs(unlimited).max() > 2.0
        np.testing.assert_array_equal(x, np.clip(unlimited, -1.0, 1.0) if clamp else unlimited)


# Independence of the audio, bit for bit, from threads, tiles and memory

# Some dilations exceed the smallest tile. None stands for the default rows.
TILED = replace(SMALL, residual_channels=16, residual_layers=7, dilation_cycle=6, n_mels=17, upsample_strides=(2, 4))
LAYOUTS = [(1, 12), (1, 96), (1, 384), (2, 24), (2, 192), (3, 12), (3, 96), (5, 24), (5, 384), (1, None), (3, None)]
TILINGS = {
    "C=16": (TILED, 150),
    "C=64": (replace(TILED, residual_channels=64), 100),
    "C=128": (replace(TILED, residual_channels=128), 60),
    "no mel": (replace(TILED, n_mels=0, upsample_strides=()), 1201),
    "reflect": (replace(TILED, padding="reflect", shared_upsampler=False), 60),
    "reflect, shortest": (replace(TILED, n_mels=0, upsample_strides=(), padding="reflect"), 33),
}


# A third of the layouts for each tiling, another third for the next; `make slow` runs all.
SOME_LAYOUTS = {name: LAYOUTS[number % 3 :: 3] for number, name in enumerate(TILINGS)}


@pytest.mark.parametrize("name", TILINGS)
@pytest.mark.parametrize(("isa", "precision"), WITH_ARM)
def test_audio_depends_on_neither_threads_nor_tiles(isa, precision, name):
    check_layouts(isa, precision, name, LAYOUTS[::5] if isa.startswith("arm") else SOME_LAYOUTS[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", TILINGS)
@pytest.mark.parametrize(("isa", "precision"), TARGETS)
def test_audio_depends_on_neither_threads_nor_tiles_in_any_layout(isa, precision, name):
    check_layouts(isa, precision, name, LAYOUTS)


def check_layouts(isa, precision, name, layouts):
    example, net = case(*TILINGS[name]), network(TILINGS[name][0], isa, precision)
    once = sampled(net, example)
    for threads, rows in layouts:
        tiled = tiled_like(net, rows)
        assert sampled(tiled, example, threads) == once, f"{threads} threads, {rows} rows"


@pytest.mark.parametrize("padding", ["zeros", "reflect"])
@pytest.mark.parametrize(("isa", "precision"), [*WITH_ARM, *targets("int8")])
def test_the_length_may_become_known_late(isa, precision, padding):
    """Rows near the end are computed before the length is known, and are reflected nevertheless."""
    config = replace(SMALL_UNCONDITIONAL, padding=padding)
    net, steps = network(config, isa, precision), 2
    d = np.float32(case(config, 24).d[:steps])
    terms = np.float32([[0.9, -0.3, 0.2]] * steps)
    for length, rows in ((24, 12), (36, 36), (120, 24), (132, 12)):
        audio = []
        for known in (length, None):
            x = normal_values(np.random.default_rng(length), length)
            sweep = net.sweep(d, terms, clamp=False, threads=2, rows=rows, length=known)
            sweep.bind(x)
            pipeline = StepPipeline(net, [(sweep, steps)], known)
            while known is None and pipeline.advance(length):
                pass
            if known is None:
                assert pipeline.begin == length
                pipeline.end(length)
            while pipeline.advance():
                pass
            audio.append(x.tobytes())
        assert audio[0] == audio[1], f"{length} samples"


@pytest.mark.parametrize("name", ["80 bands", "79 bands", "3 sweeps, no mel", "reflect", "an upsampler per layer"])
@pytest.mark.parametrize(("isa", "precision"), TARGETS)
def test_audio_does_not_depend_on_reused_memory(isa, precision, name):
    """A sweep may reuse a buffer of finished sweeps that contains NaN and infinity."""
    config, size, steps = SWEEPS[name]
    example, longer, shorter = case(config, size, steps), case(config, size + 3, steps), case(config, size - 2, steps)
    fresh = sampled(packed(config, isa, precision), example)
    options = {"d": np.float32(example.d[:6]), "coefficients": np.ones((6, 3), np.float32), "clamp": True, "threads": 1}
    inf, nan = np.inf, np.nan
    # In x a NaN ends at the first ReLU. An infinity reaches all layers in the channels where it is positive.
    for x, mel, d in ((nan, nan, nan), (inf, nan, nan), (-inf, nan, nan), (3e38, -3e38, -3e38), (-3e38, 3e38, inf)):
        net = packed(config, isa, precision)
        new = net.sweep(length=len(example.x), **options).bytes
        sampled(net, shorter)
        bad = longer.item(
            x=np.full_like(longer.x, x), mel=None if example.mel is None else np.full_like(longer.mel, mel)
        )
        evaluated(net, bad.x, bad.mel, np.full_like(longer.d[:1], d), threads=2)
        audio_of(net, bad, longer.plan, np.full_like(longer.d, d), threads=2)
        used = net.sweep(length=len(example.x), **options)
        assert used.bytes > new, "no memory is reused, so this test proves nothing"
        del used
        assert sampled(net, example) == fresh, f"after {x}, {mel}, {d}"
        assert sampled(net, example, threads=2) == fresh, f"after {x}, {mel}, {d}, 2 threads"


@pytest.mark.parametrize(
    "name", ["base", "large", "79 bands", "one stage", "3 sweeps, no mel", "13 samples", "reflect"]
)
@pytest.mark.parametrize(("isa", "precision"), [p for p in targets("fp32") if p.values[0].startswith("avx512")])
def test_vectors_of_any_width_give_the_same_audio(isa, precision, name):
    """The tiers fuse multiply and add; the generic tier, which rounds twice, is not compared."""
    config, example = SWEEPS[name][0], case(*SWEEPS[name])
    assert sampled(network(config, isa, precision), example) == sampled(network(config, "avx2", precision), example)
