"""Griffin-Lim: a waveform from a mel spectrogram without a network, a baseline of every table of quality."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.audio.mel_inversion import SMALLEST, Run, magnitudes
from engine.audio.spectrogram import HOP, KINDS, N_FFT, WINDOW
from engine.checks.arrays import FloatArray

Array = npt.NDArray[np.floating[Any]]
Spectrum = npt.NDArray[np.complexfloating[Any]]

PARTS = N_FFT // HOP  # frames that hold a sample
BLOCK = 64  # frames, whose arrays stay in a core's cache
LEAST_ENERGY = 1e-3  # of the windows at a sample; less only at the ends of the audio


def griffin_lim(
    mel: Array,
    sample_rate: int,
    *,
    kind: str = "lmnt",
    fmax: float | None = None,
    rounds: int = 32,
    momentum: float = 0.99,
    seed: int = 0,
    threads: int = 1,
    each_round: Callable[[], None] | None = None,
) -> FloatArray:
    """Compute a waveform by fast Griffin-Lim (Perraudin et al., 2013).

    A round takes the phase of the waveform that has the current spectrum, and keeps the magnitudes. The default
    momentum and number of rounds are librosa's.

    Args:
        mel: float [M, T].
        sample_rate: sample rate in Hz.
        kind: kind of the mel.
        fmax: the highest frequency of the mel in Hz, None for the kind's.
        rounds: number of corrections of the phase.
        momentum: 0 for the algorithm of Griffin and Lim (1984).
        seed: seed of the initial phase.
        threads: threads that share the frames. The result does not depend on them.
        each_round: called before every round; an exception of it ends the computation.

    Returns:
        float32 [256 T] in [-1, 1].
    """
    with ThreadPoolExecutor(threads) as pool:
        run: Run = pool.map if threads > 1 else map
        size = np.ascontiguousarray(magnitudes(mel, sample_rate, kind, fmax, run).T)
        audio = _with_phases(size, rounds, momentum / (1.0 + momentum), seed, run, each_round)
    return trimmed(audio, len(size), kind)


def _with_phases(
    size: Array, rounds: int, inertia: float, seed: int, run: Run, each_round: Callable[[], None] | None
) -> Array:
    """Return a waveform whose spectrum has nearly the magnitudes [T, 513]."""
    blocks = [slice(first, min(first + BLOCK, len(size))) for first in range(0, len(size), BLOCK)]
    frames = _with_random_phases(size, seed, blocks, run)
    corrected = np.empty_like(frames)
    previous: Spectrum = np.zeros(size.shape, complex)
    energy = _energy(len(size))

    def correct(block: slice) -> None:
        rebuilt = spectrum(_overlap_added(frames, block) / energy[block.start : block.stop + PARTS - 1])
        phase = previous[block]
        phase *= -inertia
        phase += rebuilt
        gain = np.abs(phase)
        gain += SMALLEST
        np.divide(size[block], gain, out=gain)
        phase *= gain
        corrected[block] = _frames(phase)
        phase[:] = rebuilt

    for _ in range(rounds):
        if each_round is not None:
            each_round()
        list(run(correct, blocks))
        frames, corrected = corrected, frames
    return (_overlap_added(frames) / energy).ravel()


def _with_random_phases(size: Array, seed: int, blocks: list[slice], run: Run) -> Array:
    """Return frames [T, 1024] of the magnitudes [T, 513]."""
    frames = np.empty((len(size), N_FFT))
    phases = np.random.default_rng(seed).random(size.shape)

    def begin(block: slice) -> None:
        frames[block] = _frames(np.exp(2j * np.pi * phases[block]) * size[block])

    list(run(begin, blocks))
    return frames


def trimmed(audio: Array, frames: int, kind: str) -> FloatArray:
    """Return float32 [256 T] in [-1, 1]: a waveform with the padding of its front-end, without it."""
    return np.clip(audio[KINDS[kind].pad :][: HOP * frames], -1.0, 1.0).astype(np.float32)


def spectrum(audio: Array) -> Spectrum:
    """Return the spectrum [T, 513] of a waveform's frames, 256 samples apart."""
    frames = np.lib.stride_tricks.sliding_window_view(audio.ravel(), N_FFT)[::HOP]
    return np.fft.rfft(frames * WINDOW)


def waveform(spectrum: Spectrum) -> Array:
    """Compute the waveform whose frames are nearest to a spectrum [T, 513]: windowed overlap-add over the energy."""
    return (_overlap_added(_frames(spectrum)) / _energy(len(spectrum))).ravel()


def _frames(spectrum: Spectrum) -> Array:
    """Return the windowed frames [T, 1024] of a spectrum."""
    frames: Array = np.fft.irfft(spectrum)
    frames *= WINDOW
    return frames


def _energy(frames: int) -> Array:
    """Return the sum of the squared windows at each sample, [T + 3, 256]."""
    return np.maximum(_overlap_added(np.broadcast_to(WINDOW**2, (frames, N_FFT))), LEAST_ENERGY)


def _overlap_added(frames: Array, block: slice = slice(None)) -> Array:
    """Return the sum of frames [T, 1024], 256 samples apart, over the samples of a block of them, [n + 3, 256]."""
    first, last, _ = block.indices(len(frames))
    audio = np.zeros((last - first + PARTS - 1, HOP))
    for part in reversed(range(PARTS)):  # every sample sums its frames in their order
        begin, end = (
            max(first, part),
            min(last + PARTS - 1, len(frames) + part),
        )
        audio[begin - first : end - first] += frames[begin - part : end - part, HOP * part :][:, :HOP]
    return audio
