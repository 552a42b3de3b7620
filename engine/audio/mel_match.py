"""Correction of a waveform towards a mel spectrogram, band by band."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from engine.audio.mel_inversion import SMALLEST, Triangles, bank_and_bands
from engine.audio.overlap import Array, Run, Spectrum, frames_of, in_rounds
from engine.audio.spectrogram import HOP, KINDS, N_FFT, WINDOW
from engine.checks.arrays import FloatArray

ROUNDS = 2  # more change little


def matched(
    audio: Array,
    mel: Array,
    sample_rate: int,
    *,
    kind: str = "lmnt",
    fmax: float | None = None,
    largest_gain: float = 1.0,
    threads: int = 1,
    each_round: Callable[[], None] | None = None,
) -> FloatArray:
    """Return audio whose bands are scaled towards those of a mel.

    With S = STFT(x), B the filter bank of the mel and m its magnitudes, a round is::

        g = min(m / (B |S|), largest_gain),  x <- ISTFT(S * (transpose(B) g) / (transpose(B) 1))

    A bin takes the mean gain of the bands that hold it. Bins of no band stay as they are. A gain of at most 1 removes
    what the mel does not have, such as the noise of a network between words. Larger gains also restore what is missing,
    which helps only if a waveform with this mel exists.

    Args:
        audio: float [256 T].
        mel: float [M, T].
        sample_rate: sample rate in Hz.
        kind: kind of the mel, a key of `engine.audio.spectrogram.KINDS`.
        fmax: the highest frequency of the mel in Hz, None for the kind's.
        largest_gain: of a band in each round, at least 1; math.inf for no limit.
        threads: threads that share the frames. The result does not depend on them.
        each_round: called before every round; an exception of it ends the computation.

    Returns:
        float32 [256 T] in [-1, 1].
    """
    bank, bands = bank_and_bands(mel, sample_rate, kind, fmax)
    triangles = Triangles(bank)
    outside = (bank.sum(axis=0) <= 0.0)[:, None]
    pad, length = KINDS[kind].pad, HOP * (mel.shape[1] - 1) + N_FFT
    padded = np.pad(audio.astype(np.float64), (pad, max(0, length - pad - len(audio))), "reflect")[:length]

    def scale(spectrum: Spectrum, block: slice) -> Spectrum:
        sums = triangles.collect(np.abs(spectrum.T))
        gains = np.minimum(bands[:, block] / np.maximum(sums, SMALLEST), largest_gain)
        spectrum *= (triangles.mean(gains) + outside).T
        return spectrum

    with ThreadPoolExecutor(threads) as pool:
        run: Run = pool.map if threads > 1 else map
        # The frames of a waveform with the window of the analysis and that of the synthesis overlap to the waveform.
        audio = in_rounds(frames_of(padded) * WINDOW**2, ROUNDS, scale, run, each_round)
    result: FloatArray = np.clip(audio[pad:][: HOP * mel.shape[1]], -1.0, 1.0).astype(np.float32)
    return result
