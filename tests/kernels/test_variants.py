"""Variants of the public families: sweeps of every tier against the reference in float64."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from engine.diffusion.embedding import step_biases
from engine.diffusion.noise import normal
from engine.diffusion.schedule import build_schedule
from engine.kernels import cpu, reference
from engine.sampling.item import Item
from tests.support.networks import SMALL, SMALL_UNCONDITIONAL, random_network
from tests.support.running import audio_of
from tests.support.targets import targets
from tests.support.tolerances import TOLERANCES, relative_error

pytestmark = pytest.mark.usefixtures("one_torch_thread")

VARIANTS = {
    "reflect": replace(SMALL, padding="reflect"),
    "step bias in the residual": replace(SMALL, step_bias_in_residual=True),
    "an upsampler per layer": replace(SMALL, shared_upsampler=False),
    "an upsampler per layer, three stages": replace(SMALL, shared_upsampler=False, upsample_strides=(2, 2, 4)),
    "no clamp": replace(SMALL, clamp=False),
    "sinusoid": replace(SMALL, step_embedding="sinusoid"),
    "prior": replace(SMALL, prior=True),
    "output is F": replace(SMALL, signal_std=0.14),
    "hop 275": replace(SMALL, upsample_strides=(11, 25), n_mels=20),
    "24 channels": replace(SMALL, residual_channels=24, step_bias_in_residual=True),
    "all": replace(
        SMALL,
        padding="reflect",
        step_bias_in_residual=True,
        shared_upsampler=False,
        clamp=False,
        step_embedding="sinusoid",
        prior=True,
    ),
    "philsyn unconditional": replace(
        SMALL_UNCONDITIONAL, step_bias_in_residual=True, step_embedding="sinusoid", clamp=False
    ),
}
# With hop 256: less than a register tile past the furthest reflection, and several tiles.
FRAMES = (1, 5)


@cache
def weights(name):
    return random_network(VARIANTS[name], seed=7)


@cache
def case(name, frames):
    """Return (mel, x_T, z, std, audio in float64)."""
    config = VARIANTS[name]
    length = frames * (config.hop if config.n_mels else 256)
    rng = np.random.default_rng(frames)
    mel = rng.random((config.n_mels, frames), dtype=np.float32) if config.n_mels else None
    plan = build_schedule(config)
    x, *z = [normal(3, n, 0, length) for n in range(len(plan))]
    std = rng.uniform(0.1, 1.0, length).astype(np.float32) if config.prior else None
    exact = [None if a is None else torch.tensor(a, dtype=torch.float64)[None] for a in (mel, x, std)]
    noise = torch.tensor(np.array(z), dtype=torch.float64)[:, None]
    tensors = reference.to_tensors(weights(name), torch.float64)
    audio = reference.sample(tensors, config, exact[0], plan, exact[1], noise, std=exact[2])
    return mel, x, np.array(z), std, audio[0].numpy()


def run(net, name, frames, threads=1, z=None):
    mel, x, _, std, _ = case(name, frames)
    config = VARIANTS[name]
    plan = build_schedule(config)
    d = step_biases(weights(name), config, plan.t)
    return audio_of(net, Item(len(x), mel, 3, x, z, std), plan, d, threads)


@pytest.mark.parametrize("frames", FRAMES)
@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize(("isa", "precision"), targets())
def test_variants_match_the_reference(isa, precision, name, frames):
    *_, z, _, audio = case(name, frames)
    net = cpu.CpuNetwork(VARIANTS[name], weights(name), isa, precision)
    assert relative_error(run(net, name, frames, z=z), audio) < TOLERANCES[f"network_audio_{precision}"]


LAYOUTS = ((1, 12), (2, 24), (3, 96), (5, 192))  # threads, rows of a tile
# Half of the layouts for each variant, the others for the next; `make slow` runs all.
SOME_LAYOUTS = {name: LAYOUTS[number % 2 :: 2] for number, name in enumerate(VARIANTS)}


@pytest.mark.parametrize(
    "every", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["some layouts", "all layouts"]
)
@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize(("isa", "precision"), targets())
def test_audio_depends_on_neither_threads_nor_tiles_nor_the_source_of_noise(isa, precision, name, every):
    z = case(name, 5)[2]
    net = cpu.CpuNetwork(VARIANTS[name], weights(name), isa, precision)
    expected = run(net, name, 5, z=z).tobytes()
    sweep = net.sweep
    for threads, rows in LAYOUTS if every else SOME_LAYOUTS[name]:
        net.sweep = lambda *a, rows=rows, **k: sweep(*a, rows=rows, **k)
        assert run(net, name, 5, threads).tobytes() == expected


def test_each_variant_changes_the_audio():
    """Otherwise the tests above would pass without the variant."""
    plain = run(cpu.CpuNetwork(SMALL, weights("reflect"), "generic", "fp32"), "reflect", 1)
    for name in ("reflect", "step bias in the residual", "no clamp", "sinusoid", "prior", "output is F"):
        net = cpu.CpuNetwork(VARIANTS[name], weights("reflect"), "generic", "fp32")
        mel, x, _, std, _ = case(name, 1)
        plan = build_schedule(VARIANTS[name])
        d = step_biases(weights("reflect"), VARIANTS[name], plan.t)
        audio = audio_of(net, Item(len(x), mel, 3, x, None, std), plan, d)
        assert relative_error(audio, plain) > 1e-2, name
