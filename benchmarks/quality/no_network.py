"""White noise corrected towards a mel: a vocoder without a network and without an estimate of the spectrum.

The noise keeps its own fine structure. A vocoder that scores no better than this has learnt nothing that a judge hears.
"""

from __future__ import annotations

import numpy as np

from engine.audio.griffin_lim import trimmed
from engine.audio.mel_inversion import SMALLEST, bands_of
from engine.audio.overlap import Array, spectrum, waveform
from engine.audio.spectrogram import HOP, N_FFT, bank_of
from engine.checks.arrays import FloatArray

LARGEST_GAIN = 1e6


def corrected_noise(
    mel: Array,
    sample_rate: int,
    *,
    kind: str = "lmnt",
    fmax: float | None = None,
    rounds: int = 32,
    seed: int = 0,
) -> FloatArray:
    """Compute a waveform from white noise by correcting the magnitudes of its bands.

    With x_0 standard normal noise, S_n = STFT(x_n) and B the filter bank of the mel, whose bands have magnitudes m:

        b_n = B |S_n|
        g_n[k, t] = sum_b B[b, k] (m / b_n)[b, t] / sum_b B[b, k]
        x_{n+1} = ISTFT(g_n S_n)

    A bin takes the mean gain of the bands that hold it, and a bin outside all bands becomes zero. Nothing estimates the
    magnitudes of the bins or their phases: both are the noise's own, as far as overlapping frames agree on them.

    Args:
        mel: float [M, T].
        sample_rate: sample rate in Hz.
        kind: kind of the mel.
        fmax: the highest frequency of the mel in Hz, None for the kind's.
        rounds: number of corrections.
        seed: seed of the noise.

    Returns:
        float32 [256 T] in [-1, 1].
    """
    bank, bands = bank_of(kind, sample_rate, len(mel), None, fmax), bands_of(mel, kind)
    share = bank / np.maximum(bank.sum(axis=0), SMALLEST)
    frames = bands.shape[1]
    audio: Array = np.random.default_rng(seed).standard_normal(HOP * (frames - 1) + N_FFT)
    for _ in range(rounds):
        current = spectrum(audio)
        gain = np.minimum(bands / np.maximum(bank @ np.abs(current.T), SMALLEST), LARGEST_GAIN)
        audio = waveform(current * (share.T @ gain).T)
    return trimmed(audio, frames, kind)
