"""Griffin-Lim in blocks and threads against the algorithm in one piece, and the magnitudes that it starts from."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import engine
from engine.audio.filterbank import filter_bank
from engine.audio.griffin_lim import griffin_lim
from engine.audio.mel_inversion import BLOCK as COLUMNS
from engine.audio.mel_inversion import Triangles, bands_of, magnitudes
from engine.audio.overlap import BLOCK, Array, blocks_of, shared_by, spectrum, waveform
from engine.audio.spectrogram import bank_of
from engine.checks.arrays import FloatArray
from tests.support.tolerances import TOLERANCES, relative_error

RATE = 22050


def a_mel(frames: int, seed: int = 0) -> FloatArray:
    """Return the mel of noise whose level varies."""
    random = np.random.default_rng(seed)
    level = np.repeat(random.uniform(0.001, 0.3, frames + 2), 256)
    return engine.mel((level * random.standard_normal(len(level))).clip(-1, 1).astype(np.float32), RATE)[:, :frames]


def in_one_piece(mel: Array, rounds: int, momentum: float, seed: int) -> Array:
    """Return fast Griffin-Lim as its paper writes it: c_n = t_n + alpha (t_n - t_{n-1}) with the phase of c kept."""
    size = magnitudes(mel, RATE).T
    current = size * np.exp(2j * np.pi * np.random.default_rng(seed).random(size.shape))
    previous = np.zeros_like(current)
    for _ in range(rounds):
        projected = spectrum(waveform(current))
        ahead = projected + momentum * (projected - previous) if momentum else projected
        current, previous = size * ahead / (np.abs(ahead) + 1e-12), projected
    return waveform(current)[512:][: 256 * len(size)]


@pytest.mark.parametrize("frames", [1, 3, BLOCK - 1, BLOCK, BLOCK + 2, 2 * BLOCK + 1, COLUMNS + 1])
@pytest.mark.parametrize("momentum", [0.0, 0.99])
def test_blocks_have_no_seams(frames: int, momentum: float) -> None:
    mel = a_mel(frames)
    audio = griffin_lim(mel, RATE, rounds=4, momentum=momentum, seed=3)
    expected = in_one_piece(mel, 4, momentum, 3)
    assert relative_error(audio, expected.clip(-1, 1)) < TOLERANCES["griffin_lim_blocks"]


def test_threads_do_not_change_the_bytes() -> None:
    mel = a_mel(3 * BLOCK + 5)
    audio = griffin_lim(mel, RATE, rounds=3)
    for threads in (2, 3, 16):
        assert griffin_lim(mel, RATE, rounds=3, threads=threads).tobytes() == audio.tobytes()


def test_an_exception_between_rounds_ends_the_threads() -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        griffin_lim(a_mel(BLOCK + 1), RATE, threads=2, each_round=stop)


@pytest.mark.parametrize("frames", [1, COLUMNS, COLUMNS + 1])
def test_magnitudes_have_the_bands_of_the_mel(frames: int) -> None:
    mel = a_mel(frames, seed=1)
    bank, bands = bank_of("lmnt", RATE, len(mel), None, None), bands_of(mel, "lmnt")
    sizes = magnitudes(mel, RATE)
    assert (sizes >= 0).all()
    assert relative_error(bank @ sizes, bands) < TOLERANCES["mel_inversion"]


@pytest.mark.parametrize("bands", [20, 80, 128])
def test_products_are_those_of_the_bank(bands: int) -> None:
    random = np.random.default_rng(bands)
    bank = filter_bank(np.linspace(0.0, RATE / 2, 513), "htk", bands, 20.0, 8000.0)
    triangles = Triangles(bank)
    bins, sums = random.random((513, 7)), random.random((bands, 7))
    assert triangles.collect(bins) == pytest.approx(bank @ bins)
    weights = np.maximum(bank.sum(axis=0), 1e-12)[:, None]
    assert triangles.mean(sums) == pytest.approx(bank.T @ sums / weights)
    gain = np.maximum(bank.T @ bank.sum(axis=1, keepdims=True), 1e-12)
    assert triangles.initial(sums) == pytest.approx(np.maximum(bank.T @ sums / gain, 1e-12))


def test_an_exception_in_a_block_leaves_all_threads() -> None:
    taken: list[int] = []

    def fail(block: slice) -> None:
        taken.append(block.start)
        raise ArithmeticError

    with pytest.raises(ArithmeticError), shared_by(3) as run:
        run(fail, blocks_of(100 * BLOCK))
    assert len(taken) <= 3


def test_helpers_share_the_blocks() -> None:
    together, done = threading.Barrier(3), []

    def meet(block: slice) -> None:
        together.wait(timeout=60)
        done.append(block.start)

    with shared_by(3) as run:
        run(meet, blocks_of(3, 1))
    assert sorted(done) == [0, 1, 2]


def test_a_thread_alone_does_all_blocks_if_no_other_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = griffin_lim(a_mel(3 * BLOCK), RATE, rounds=2).tobytes()
    submit, calls = ThreadPoolExecutor.submit, []

    def refuse(self: ThreadPoolExecutor, *arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            submit(self, *arguments)  # as Python 3.12: the call is in the queue all the same
            raise RuntimeError("can't create new thread at interpreter shutdown")
        return submit(self, *arguments)

    monkeypatch.setattr(ThreadPoolExecutor, "submit", refuse)
    assert griffin_lim(a_mel(3 * BLOCK), RATE, rounds=2, threads=3).tobytes() == expected and len(calls) > 2
