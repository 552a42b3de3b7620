"""The same bytes whatever the threads, pieces, chunks, batches and tiers, on random cases (hypothesis)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import hypothesis
import hypothesis.strategies as st
import numpy as np
import numpy.typing as npt
import pytest

from engine import Voice
from engine.checkpoint.load import Checkpoint
from engine.config import Config
from engine.kernels import cpu, registry
from engine.voice import load
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
FURTHEST = 16  # dilation

Array = npt.NDArray[np.float32]


def permuted(config: Config, tensors: Arrays) -> Arrays:
    """The same network with its channels in another order: every sum over channels has another order, too."""
    C = config.residual_channels
    order = np.random.default_rng(0).permutation(C)
    twice = np.concatenate([order, order + C])
    rows = dict.fromkeys(("input_projection", "diffusion_projection", "skip_projection"), order)
    rows |= dict.fromkeys(("dilated_conv", "conditioner_projection", "output_projection"), twice)
    made = {}
    for key, tensor in tensors.items():
        *_, name, kind = key.split(".")
        if name in rows and not key.startswith("output_projection"):  # the last of all has one row
            tensor = tensor[rows[name]]
        if kind == "weight" and name in ("dilated_conv", "output_projection", "skip_projection"):
            tensor = tensor[:, order]
        made[key] = np.ascontiguousarray(tensor)
    return made


@cache
def voice(name: str, isa: str, precision: str, threads: int = 1, permute: bool = False) -> Voice:
    config = with_ranges(NETWORKS[name]) if precision == "int8" else NETWORKS[name]
    tensors = random_network(config, 0)
    choice = registry.select("cpu", precision, isa, bool(config.int8_ranges))
    return Voice(Checkpoint(config, permuted(config, tensors) if permute else tensors), choice, threads)


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """Each of these voices keeps its working memory for the next call."""
    yield
    voice.cache_clear()


@dataclass(frozen=True)
class Way:
    """One of the ways to make the same audio."""

    threads: int
    cuts: tuple[int, ...]
    chunk: int | None
    before: tuple[int, ...]
    after: tuple[int, ...]
    by_hand: bool


WAYS = st.builds(
    Way,
    threads=st.integers(1, 8),
    cuts=st.lists(st.integers(0, 60), max_size=12).map(tuple),
    chunk=st.none() | st.integers(1, 400),
    before=st.lists(st.integers(9, 40), max_size=2).map(tuple),
    after=st.lists(st.integers(9, 40), max_size=2).map(tuple),
    by_hand=st.booleans(),
)


def mel_of(config: Config, frames: int, seed: int) -> Array:
    return np.random.default_rng((frames, seed)).random((config.n_mels, frames), np.float32)


def made(one: Voice, mel: Array, seed: int, way: Way) -> tuple[bytes, bytes]:
    """The audio of a mel as a stream, and as an item of a batch."""
    options: dict[str, Any] = {"steps": "full" if one.config.fast_schedule is None else 6}
    if one.config.prior:
        options["energy_min"] = 0.5
    pieces = np.split(mel, sorted(min(cut, mel.shape[1]) for cut in way.cuts), axis=1)
    if way.by_hand:
        stream = one.open_stream(seed=seed, **options)
        chunks = [*(stream.feed(piece) for piece in pieces), stream.finish()]
    else:
        chunks = list(one.stream(pieces, seed=seed, chunk=way.chunk, **options))
    others = [mel_of(one.config, frames, 1) for frames in (*way.before, *way.after)]
    batch = [*others[: len(way.before)], mel, *others[len(way.before) :]]
    seeds = [5] * len(batch)
    seeds[len(way.before)] = seed
    audio = one.vocode(batch, seed=seeds, **options)[len(way.before)]
    return np.concatenate(chunks).tobytes(), audio.tobytes()


def check(isa: str, precision: str, trials: int) -> None:
    @hypothesis.settings(max_examples=trials, deadline=None, database=None, derandomize=True)
    @hypothesis.given(st.sampled_from(list(NETWORKS)), st.integers(9, 60), st.integers(0, 2**64 - 1), WAYS)
    def same(name: str, frames: int, seed: int, way: Way) -> None:
        mel = mel_of(NETWORKS[name], frames, 0)
        plain = Way(1, (), None, (), (), True)
        expected = made(voice(name, isa, precision), mel, seed, plain)[1]
        assert made(voice(name, isa, precision, way.threads), mel, seed, way) == (expected, expected)

    same()


@pytest.mark.parametrize(("isa", "precision"), [*targets(), *targets("int8")])
def test_every_way_gives_the_same_bytes(isa: str, precision: str) -> None:
    check(isa, precision, 5 if precision == "int8" else 100)


@pytest.mark.slow
@pytest.mark.parametrize(("isa", "precision"), [*targets(), *targets("int8")])
def test_every_way_gives_the_same_bytes_in_1000_trials(isa: str, precision: str) -> None:
    check(isa, precision, 1000)


@pytest.mark.parametrize(("isa", "precision"), targets())
def test_another_order_of_a_reduction_is_noticed(isa: str, precision: str) -> None:
    """The control: the same network to the last digit but one, and none of the checks above would pass."""
    way = Way(2, (3,), None, (), (), False)
    for name in ("lmnt", "wide", "philsyn"):
        mel = mel_of(NETWORKS[name], 30, 0)
        plain, other = (voice(name, isa, precision, permute=permute) for permute in (False, True))
        audio, changed = plain.vocode(mel, seed=3), other.vocode(mel, seed=3)
        assert made(other, mel, 3, way)[0] == changed.tobytes() != audio.tobytes()
        assert relative_error(changed, audio) < (1e-4 if precision == "fp32" else 0.2)


@pytest.mark.parametrize(("isa", "precision"), [p for p in targets("fp32") if p.values[0] not in ("generic", "avx2")])
def test_fp32_has_the_same_bytes_in_vectors_of_any_width(isa: str, precision: str) -> None:
    fused = {name for name, *_ in cpu.tiers()} & {"avx2", "generic"}
    first = "avx2" if "avx2" in fused else "generic"
    for name, config in NETWORKS.items():
        mel = mel_of(config, 30, 0)
        way = Way(2, (3, 20), 100, (9,), (), False)
        assert made(voice(name, isa, precision), mel, 3, way) == made(voice(name, first, precision), mel, 3, way)


def test_a_file_gives_what_its_network_gives(tmp_path: Any) -> None:
    """`voice` above does not go through a file."""
    from engine.checkpoint.load import save_checkpoint

    save_checkpoint(tmp_path / "v.safetensors", Checkpoint(SMALL, random_network(SMALL, 0)))
    loaded = load(tmp_path / "v.safetensors", device="cpu", precision="fp32", isa="generic")
    mel = mel_of(SMALL, 20, 0)
    assert loaded.vocode(mel).tobytes() == voice("lmnt", "generic", "fp32").vocode(mel).tobytes()
