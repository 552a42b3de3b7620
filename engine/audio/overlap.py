"""Short-time spectra of a waveform, and the waveform of a spectrum, in blocks of frames that threads may share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.audio.spectrogram import HOP, N_FFT, WINDOW

Array = npt.NDArray[np.floating[Any]]
Spectrum = npt.NDArray[np.complexfloating[Any]]
Run = Callable[[Callable[[slice], None], list[slice]], Iterable[None]]  # map, or that of an executor
Update = Callable[[Spectrum, slice], Spectrum]  # of the spectrum of a block of frames

PARTS = N_FFT // HOP  # frames that hold a sample
BLOCK = 64  # frames, whose arrays stay in a core's cache
LEAST_ENERGY = 1e-3  # of the windows at a sample; less only at the ends of the audio


def spectrum(audio: Array) -> Spectrum:
    """Return the spectrum [T, 513] of a waveform's frames, 256 samples apart."""
    return np.fft.rfft(frames_of(audio) * WINDOW)


def waveform(spectrum: Spectrum) -> Array:
    """Compute the waveform whose frames are nearest to a spectrum [T, 513]: windowed overlap-add over the energy."""
    return joined(windowed(spectrum))


def frames_of(audio: Array) -> Array:
    """Return the frames [T, 1024] of a waveform, 256 samples apart, as a view."""
    return np.lib.stride_tricks.sliding_window_view(audio.ravel(), N_FFT)[::HOP]


def windowed(spectrum: Spectrum) -> Array:
    """Return the windowed frames [T, 1024] of a spectrum."""
    frames: Array = np.fft.irfft(spectrum)
    frames *= WINDOW
    return frames


def joined(frames: Array) -> Array:
    """Return the waveform of windowed frames [T, 1024]."""
    return (_added(frames) / _energy(len(frames))).ravel()


def blocks_of(count: int, size: int = BLOCK) -> list[slice]:
    """Return slices that cover `count` frames."""
    return [slice(first, min(first + size, count)) for first in range(0, count, size)]


def in_rounds(
    audio: Array, rounds: int, update: Update, run: Run = map, each_round: Callable[[], None] | None = None
) -> Array:
    """Replace a waveform by that of its updated spectrum, again and again.

    Args:
        audio: [256 T + 768].
        rounds: number of updates.
        update: called with the spectrum of a block of frames and the block, in any order and in several threads.
        run: `map` of an executor, to share the blocks among its threads. The result does not depend on it.
        each_round: called before every round; an exception of it ends the computation.

    Returns:
        The waveform, of the same length.
    """
    hops = audio.reshape(-1, HOP)
    count = len(hops) - PARTS + 1
    blocks, energy = blocks_of(count), _energy(count)
    frames, updated = np.empty((2, count, N_FFT))

    def begin(block: slice) -> None:
        updated[block] = windowed(update(spectrum(hops[block.start : block.stop + PARTS - 1]), block))

    def advance(block: slice) -> None:
        part = _added(frames, block) / energy[block.start : block.stop + PARTS - 1]
        updated[block] = windowed(update(spectrum(part), block))

    for number in range(rounds):
        if each_round is not None:
            each_round()
        list(run(advance if number else begin, blocks))
        frames, updated = updated, frames
    return (_added(frames) / energy).ravel() if rounds else audio


def _energy(frames: int) -> Array:
    """Return the sum of the squared windows at each sample, [T + 3, 256]."""
    return np.maximum(_added(np.broadcast_to(WINDOW**2, (frames, N_FFT))), LEAST_ENERGY)


def _added(frames: Array, block: slice = slice(None)) -> Array:
    """Return the sum of frames [T, 1024], 256 samples apart, over the samples of a block of them, [n + 3, 256]."""
    first, last, _ = block.indices(len(frames))
    audio = np.zeros((last - first + PARTS - 1, HOP))
    for part in reversed(range(PARTS)):  # every sample sums its frames in their order
        begin, end = max(first, part), min(last + PARTS - 1, len(frames) + part)
        audio[begin - first : end - first] += frames[begin - part : end - part, HOP * part :][:, :HOP]
    return audio
