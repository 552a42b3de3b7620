"""Bit-identical audio for any threads, pieces, chunks, batches and tiers, on random cases (hypothesis)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from engine import Voice, load
from engine.checkpoint.load import Checkpoint, save_checkpoint
from engine.checks.arrays import FloatArray
from engine.config import Config
from engine.kernels import cpu, registry
from tests.support.networks import Arrays, random_network
from tests.support.quantized import with_ranges
from tests.support.targets import targets
from tests.support.tolerances import relative_error

SMALL = Config(residual_channels=16, residual_layers=6, dilation_cycle=5, n_mels=20, upsample_strides=(4, 4))
NETWORKS = {
    "lmnt": SMALL,
    "wide": replace(SMALL, residual_channels=64, residual_layers=3, dilation_cycle=3, n_mels=80),
    "reflect": replace(SMALL, padding="reflect", mel_kind=None),
    "philsyn": replace(SMALL, shared_upsampler=False, step_bias_in_residual=True, clamp=False, mel_kind=None),
    "prior": replace(SMALL, prior=True, mel_kind=None),
    "hop 2": replace(SMALL, upsample_strides=(2,)),
    "10 steps": replace(SMALL, train_schedule=tuple(np.linspace(1e-4, 0.05, 10).tolist()), fast_schedule=None),
}


def permuted(config: Config, tensors: Arrays) -> Arrays:
    """Return the same network with its channels in another order, which changes the order of sums over channels."""
    C = config.residual_channels
    order = np.random.default_rng(0).permutation(C)
    twice = np.concatenate([order, order + C])
    rows = dict.fromkeys(("input_projection", "diffusion_projection", "skip_projection"), order)
    rows |= dict.fromkeys(("dilated_conv", "conditioner_projection", "output_projection"), twice)
    result = {}
    for key, tensor in tensors.items():
        *_, name, kind = key.split(".")
        if name in rows and not key.startswith("output_projection"):  # the network's last projection has one row
            tensor = tensor[rows[name]]
        if kind == "weight" and name in ("dilated_conv", "output_projection", "skip_projection"):
            tensor = tensor[:, order]
        result[key] = np.ascontiguousarray(tensor)
    return result


@cache
def voice_of(name: str, isa: str, precision: str, threads: int = 1, permute: bool = False) -> Voice:
    config = with_ranges(NETWORKS[name]) if precision == "int8" else NETWORKS[name]
    tensors = random_network(config, 0)
    choice = registry.select("cpu", precision, isa, bool(config.int8_ranges))
    return Voice(Checkpoint(config, permuted(config, tensors) if permute else tensors), choice, threads)


@pytest.fixture(autouse=True)
def free_voices() -> Iterator[None]:
    """Free the working memory that a voice keeps for its next call."""
    yield
    voice_of.cache_clear()


@dataclass(frozen=True)
class Mode:
    """One way to compute the same audio.

    Attributes:
        threads: number of threads of the voice.
        cuts: frames at which the mel is split into pieces of a stream.
        chunk: samples per chunk of a stream.
        before: frames of the items before the mel in a batch.
        after: frames of the items after the mel in a batch.
        by_hand: whether the stream is fed by `Stream.feed`.
        steps: number of steps of a network that has few-step schedules.
    """

    threads: int
    cuts: tuple[int, ...]
    chunk: int | None
    before: tuple[int, ...]
    after: tuple[int, ...]
    by_hand: bool
    steps: int = 6


MODES = st.builds(
    Mode,
    threads=st.integers(1, 8),
    cuts=st.lists(st.integers(0, 60), max_size=12).map(tuple),
    chunk=st.none() | st.integers(1, 400),
    before=st.lists(st.integers(9, 40), max_size=2).map(tuple),
    after=st.lists(st.integers(9, 40), max_size=2).map(tuple),
    by_hand=st.booleans(),
    steps=st.integers(1, 6),
)


def mel_of(config: Config, frames: int, seed: int) -> FloatArray:
    return np.random.default_rng((frames, seed)).random((config.n_mels, frames), np.float32)


def compute(voice: Voice, mel: FloatArray, seed: int, mode: Mode) -> tuple[bytes, bytes]:
    """Compute the audio of a mel as a stream, and as an item of a batch."""
    options: dict[str, Any] = {"steps": "full" if voice.config.fast_schedule is None else mode.steps}
    if voice.config.prior:
        options["energy_min"] = 0.5
    pieces = np.split(mel, sorted(min(cut, mel.shape[1]) for cut in mode.cuts), axis=1)
    if mode.by_hand:
        stream = voice.open_stream(seed=seed, **options)
        chunks = [*(stream.feed(piece) for piece in pieces), stream.finish()]
    else:
        chunks = list(voice.stream(pieces, seed=seed, chunk=mode.chunk, **options))
    others = [mel_of(voice.config, frames, 1) for frames in (*mode.before, *mode.after)]
    batch = [*others[: len(mode.before)], mel, *others[len(mode.before) :]]
    seeds = [5] * len(batch)
    seeds[len(mode.before)] = seed
    audio = voice.vocode(batch, seed=seeds, **options)[len(mode.before)]
    return np.concatenate(chunks).tobytes(), audio.tobytes()


def check_identity(isa: str, precision: str, trials: int) -> None:
    @hypothesis.settings(max_examples=trials, deadline=None, database=None, derandomize=True)
    @hypothesis.given(st.sampled_from(list(NETWORKS)), st.integers(9, 60), st.integers(0, 2**64 - 1), MODES)
    def same(name: str, frames: int, seed: int, mode: Mode) -> None:
        mel = mel_of(NETWORKS[name], frames, 0)
        plain = Mode(1, (), None, (), (), True, mode.steps)
        expected = compute(voice_of(name, isa, precision), mel, seed, plain)[1]
        assert compute(voice_of(name, isa, precision, mode.threads), mel, seed, mode) == (expected, expected)

    same()


@pytest.mark.parametrize(("isa", "precision"), [*targets(tiles=False), *targets("int8", tiles=False)])
def test_every_mode_gives_the_same_bytes(isa: str, precision: str) -> None:
    check_identity(isa, precision, 5 if precision == "int8" else 100)


@pytest.mark.slow
@pytest.mark.parametrize(("isa", "precision"), [*targets(tiles=False), *targets("int8", tiles=False)])
def test_every_mode_gives_the_same_bytes_in_1000_trials(isa: str, precision: str) -> None:
    check_identity(isa, precision, 1000)


@pytest.mark.parametrize(("isa", "precision"), targets(tiles=False))
def test_another_order_of_a_sum_changes_the_bytes(isa: str, precision: str) -> None:
    """Check that the tests above detect rounding differences: this is their control."""
    mode = Mode(2, (3,), None, (), (), False)
    for name in ("lmnt", "wide", "philsyn"):
        mel = mel_of(NETWORKS[name], 30, 0)
        plain, other = (voice_of(name, isa, precision, permute=permute) for permute in (False, True))
        audio, changed = plain.vocode(mel, seed=3), other.vocode(mel, seed=3)
        assert compute(other, mel, 3, mode)[0] == changed.tobytes() != audio.tobytes()
        assert relative_error(changed, audio) < (1e-4 if precision == "fp32" else 0.2)


@pytest.mark.parametrize(("isa", "precision"), [p for p in targets("fp32") if p.values[0] not in ("generic", "avx2")])
def test_fp32_has_the_same_bytes_for_any_vector_width(isa: str, precision: str) -> None:
    fused = {name for name, *_ in cpu.tiers()} & {"avx2", "generic"}
    reference_tier = "avx2" if "avx2" in fused else "generic"
    for name, config in NETWORKS.items():
        mel = mel_of(config, 30, 0)
        mode = Mode(2, (3, 20), 100, (9,), (), False)
        assert compute(voice_of(name, isa, precision), mel, 3, mode) == compute(
            voice_of(name, reference_tier, precision), mel, 3, mode
        )


def test_loaded_file_gives_the_same_bytes_as_its_network(tmp_path: Path) -> None:
    """`voice_of` above does not load a file."""
    save_checkpoint(tmp_path / "v.safetensors", Checkpoint(SMALL, random_network(SMALL, 0)))
    loaded = load(tmp_path / "v.safetensors", device="cpu", precision="fp32", isa="generic")
    mel = mel_of(SMALL, 20, 0)
    assert loaded.vocode(mel).tobytes() == voice_of("lmnt", "generic", "fp32").vocode(mel).tobytes()
