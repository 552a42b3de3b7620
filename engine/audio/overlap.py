"""Short-time spectra of a waveform, and the waveform of a spectrum, in blocks of frames that threads may share.

Everything takes arrays of NumPy or tensors of PyTorch, and returns the same kind.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.audio.library import empty, library, window, zeros
from engine.audio.spectrogram import HOP, N_FFT, WINDOW
from engine.checks.arrays import is_torch

Array = npt.NDArray[np.floating[Any]]
Spectrum = npt.NDArray[np.complexfloating[Any]]
Work = Callable[[slice], None]  # on a block of frames
Run = Callable[[Work, list[slice]], None]  # does the work on all blocks
Update = Callable[[Spectrum, slice], Spectrum]  # of the spectrum of a block of frames

PARTS = N_FFT // HOP  # frames that hold a sample
BLOCK = 64  # frames, whose arrays stay in a core's cache
DEVICE_BLOCK = 8192  # frames of tensors, whose temporary values take 30 KB each
LEAST_ENERGY = 1e-3  # of the windows at a sample; less only at the ends of the audio


def spectrum(audio: Array) -> Spectrum:
    """Return the spectrum [T, 513] of a waveform's frames, 256 samples apart."""
    return library(audio).fft.rfft(frames_of(audio) * window(audio))  # type: ignore[no-any-return]


def waveform(spectrum: Spectrum) -> Array:
    """Compute the waveform whose frames are nearest to a spectrum [T, 513]: windowed overlap-add over the energy."""
    return joined(windowed(spectrum))


def frames_of(audio: Array) -> Array:
    """Return the frames [T, 1024] of a waveform, 256 samples apart, as a view."""
    if is_torch(audio):
        return audio.ravel().unfold(0, N_FFT, HOP)  # type: ignore[attr-defined,no-any-return]
    return np.lib.stride_tricks.sliding_window_view(audio.ravel(), N_FFT)[::HOP]


def windowed(spectrum: Spectrum) -> Array:
    """Return the windowed frames [T, 1024] of a spectrum."""
    frames: Array = library(spectrum).fft.irfft(spectrum)
    frames *= window(spectrum)
    return frames


def joined(frames: Array) -> Array:
    """Return the waveform of windowed frames [T, 1024]."""
    return (added(frames) / energy(len(frames), frames)).ravel()


def blocks_of(count: int, size: int = BLOCK) -> list[slice]:
    """Return slices that cover `count` frames."""
    return [slice(first, min(first + size, count)) for first in range(0, count, size)]


def block_size(array: Array, size: int = BLOCK) -> int:
    """Return the frames of a block: `size` for an array of NumPy, more for a tensor."""
    return DEVICE_BLOCK if is_torch(array) else size


def in_order(work: Work, blocks: list[slice]) -> None:
    """Do the work on one block after another."""
    for block in blocks:
        work(block)


@contextmanager
def shared_by(threads: int) -> Iterator[Run]:
    """Yield a function that does the work on blocks in this thread and in `threads` - 1 others."""
    if threads == 1:
        yield in_order
        return
    with ThreadPoolExecutor(threads - 1) as helpers:
        yield partial(_share, helpers, threads - 1)


def _share(helpers: ThreadPoolExecutor, count: int, work: Work, blocks: list[slice]) -> None:
    remaining = deque(blocks)

    def take() -> None:
        while True:
            try:
                block = remaining.popleft()
            except IndexError:
                return
            work(block)

    futures = []
    try:
        for _ in range(min(count, len(blocks) - 1)):
            futures.append(helpers.submit(take))
    except RuntimeError as error:  # an interpreter that ends starts no more threads: this one does the work alone
        if "shutdown" not in str(error):
            raise
        helpers.shutdown()  # a refused call may be in the queue; from now on, every one is refused
    try:
        take()
    finally:
        remaining.clear()
    for future in futures:
        future.result()


def in_rounds(
    audio: Array, rounds: int, update: Update, run: Run = in_order, each_round: Callable[[], None] | None = None
) -> Array:
    """Replace a waveform by that of its updated spectrum, again and again.

    Args:
        audio: [256 T + 768].
        rounds: number of updates.
        update: called with the spectrum of a block of frames and the block, in any order and in several threads.
        run: `in_order`, or that of `shared_by` for arrays. The result does not depend on it.
        each_round: called before every round; an exception of it ends the computation.

    Returns:
        The waveform, of the same length.
    """
    hops = audio.reshape(-1, HOP)
    count = len(hops) - PARTS + 1
    blocks, weights = blocks_of(count, block_size(audio)), energy(count, audio)
    frames, updated = empty((2, count, N_FFT), audio)

    def begin(block: slice) -> None:
        updated[block] = windowed(update(spectrum(hops[block.start : block.stop + PARTS - 1]), block))

    def advance(block: slice) -> None:
        part = added(frames, block) / weights[block.start : block.stop + PARTS - 1]
        updated[block] = windowed(update(spectrum(part), block))

    for number in range(rounds):
        if each_round is not None:
            each_round()
        run(advance if number else begin, blocks)
        frames, updated = updated, frames
    return (added(frames) / weights).ravel() if rounds else audio


def energy(frames: int, like: Array = WINDOW) -> Array:
    """Return the sum of the squared windows at each sample, [T + 3, 256], as `like`."""
    squares = library(like).broadcast_to(window(like) ** 2, (frames, N_FFT))
    return library(like).clip(added(squares), LEAST_ENERGY, None)  # type: ignore[no-any-return]


def added(frames: Array, block: slice = slice(None)) -> Array:
    """Return the sum of frames [T, 1024], 256 samples apart, over the samples of a block of them, [n + 3, 256]."""
    first, last, _ = block.indices(len(frames))
    audio: Array = zeros((last - first + PARTS - 1, HOP), frames)
    for part in reversed(range(PARTS)):  # every sample sums its frames in their order
        begin, end = max(first, part), min(last + PARTS - 1, len(frames) + part)
        audio[begin - first : end - first] += frames[begin - part : end - part, HOP * part :][:, :HOP]
    return audio
