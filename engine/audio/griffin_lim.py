"""Griffin-Lim: a waveform from a mel spectrogram without a network, a baseline of every table of quality."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.audio.spectrogram import HOP, KINDS, N_FFT, WINDOW, bank_of
from engine.checks.arrays import FloatArray

Array = npt.NDArray[np.floating[Any]]

SMALLEST = 1e-12
UPDATES = 100  # of the magnitudes
ONES = np.ones((N_FFT // 2 + 1, 1))


def bank_and_bands(mel: Array, sample_rate: int, kind: str = "lmnt", fmax: float | None = None) -> tuple[Array, Array]:
    """Return the filter bank B [M, 513] of a mel, and its magnitudes B |S| [M, T] without the compression.

    Args:
        mel: float [M, T].
        sample_rate: sample rate in Hz.
        kind: kind of the mel, a key of `engine.audio.spectrogram.KINDS`.
        fmax: the highest frequency of the bank in Hz, None for the kind's.
    """
    return bank_of(kind, sample_rate, len(mel), None, fmax), KINDS[kind].expand(mel.astype(np.float64))


def magnitudes(mel: Array, sample_rate: int, kind: str = "lmnt", fmax: float | None = None) -> Array:
    """Estimate the magnitudes |S| [513, T] whose mel is the given one.

    Inverts the compression, then solves min ||B |S| - m|| for |S| >= 0 by multiplicative updates (Lee & Seung, 2001),
    from the mean of the bands of a bin on. See `bank_and_bands` for the arguments.
    """
    bank, bands = bank_and_bands(mel, sample_rate, kind, fmax)
    of_ones = _Triangles(bank, 1)
    gain = of_ones.to_bins(of_ones.to_bands(ONES))
    triangles = _Triangles(bank, bands.shape[1])
    back = triangles.to_bins(bands).copy()
    result: Array = np.maximum(back / np.maximum(gain, SMALLEST), SMALLEST)
    for _ in range(UPDATES):
        factor = triangles.to_bins(triangles.to_bands(result))
        factor += SMALLEST
        np.divide(back, factor, out=factor)
        result *= factor
    return result


class _Triangles:
    """Products with a filter bank B [M, 513] of triangles, of which at most two neighbors overlap in a bin.

    Every sum has a fixed order. A matrix product has one that depends on the processor and on the number of threads.
    The results are valid until the next call: new arrays of this size would cost more than the products.

    Args:
        bank: B.
        frames: T.
    """

    def __init__(self, bank: Array, frames: int) -> None:
        bins = np.arange(bank.shape[1])
        self._lower = np.where((bank > 0).any(axis=0), (bank > 0).argmax(axis=0), 0)
        self._upper = np.minimum(self._lower + 1, len(bank) - 1)
        self._low = bank[self._lower, bins][:, None]
        self._high = np.where(self._upper > self._lower, bank[self._upper, bins], 0.0)[:, None]
        spans = [np.flatnonzero(row) for row in bank]
        self._bands = [(span[0], bank[m, span[0] : span[-1] + 1, None]) for m, span in enumerate(spans) if len(span)]
        self._places = [m for m, span in enumerate(spans) if len(span)]
        self._sums = np.zeros((len(bank), frames))
        self._product, self._scratch = np.empty((2, bank.shape[1], frames))

    def to_bins(self, bands: Array) -> Array:
        """Return transpose(B) bands [513, T]."""
        np.take(bands, self._lower, axis=0, out=self._product, mode="clip")
        np.take(bands, self._upper, axis=0, out=self._scratch, mode="clip")
        self._product *= self._low
        self._scratch *= self._high
        self._product += self._scratch
        return self._product

    def to_bands(self, bins: Array) -> Array:
        """Return B bins [M, T]."""
        for place, (first, weights) in zip(self._places, self._bands, strict=True):
            terms = np.multiply(weights, bins[first : first + len(weights)], out=self._scratch[: len(weights)])
            np.add.reduce(terms, axis=0, out=self._sums[place])
        return self._sums


def griffin_lim(
    mel: Array,
    sample_rate: int,
    *,
    kind: str = "lmnt",
    fmax: float | None = None,
    rounds: int = 32,
    momentum: float = 0.99,
    seed: int = 0,
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
        each_round: called before every round; an exception of it ends the computation.

    Returns:
        float32 [256 T] in [-1, 1].
    """
    size = np.ascontiguousarray(magnitudes(mel, sample_rate, kind, fmax).T)
    phase = np.exp(2j * np.pi * np.random.default_rng(seed).random(size.shape))
    previous = np.zeros_like(phase)
    norm = np.empty_like(size)
    for _ in range(rounds):
        if each_round is not None:
            each_round()
        phase *= size
        rebuilt = spectrum(waveform(phase))
        previous *= -momentum / (1.0 + momentum)
        np.add(rebuilt, previous, out=phase)
        np.abs(phase, out=norm)
        norm += SMALLEST
        phase /= norm
        previous = rebuilt
    phase *= size
    return trimmed(waveform(phase), len(size), kind)


def trimmed(audio: Array, frames: int, kind: str) -> FloatArray:
    """Return float32 [256 T] in [-1, 1]: a waveform with the padding of its front-end, without it."""
    return np.clip(audio[KINDS[kind].pad :][: HOP * frames], -1.0, 1.0).astype(np.float32)


def spectrum(audio: Array) -> npt.NDArray[np.complexfloating[Any]]:
    """Return the spectrum [T, 513] of a waveform's frames, 256 samples apart."""
    frames = np.lib.stride_tricks.sliding_window_view(audio, N_FFT)[::HOP]
    return np.fft.rfft(frames * WINDOW)


def waveform(spectrum: npt.NDArray[np.complexfloating[Any]]) -> Array:
    """Compute the waveform whose frames are nearest to a spectrum [T, 513]: windowed overlap-add over the energy."""
    frames = np.fft.irfft(spectrum)
    frames *= WINDOW
    audio = _overlap_added(frames)
    audio /= np.maximum(_overlap_added(np.broadcast_to(WINDOW**2, frames.shape)), 1e-3)
    return audio


def _overlap_added(frames: Array) -> Array:
    """Return the sum of frames [T, 1024], 256 samples apart."""
    parts = N_FFT // HOP
    audio = np.zeros((len(frames) + parts - 1, HOP))
    for part in reversed(range(parts)):  # every sample sums its frames in their order
        audio[part : part + len(frames)] += frames[:, HOP * part :][:, :HOP]
    return audio.ravel()
