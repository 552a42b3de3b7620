"""Griffin-Lim: a waveform from a mel spectrogram without a network, the baseline of the samples in docs/samples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.audio.filterbank import filter_bank
from engine.audio.spectrogram import HOP, KINDS, N_FFT
from engine.checks.arrays import FloatArray

Array = npt.NDArray[np.floating[Any]]

WINDOW = 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(N_FFT) / N_FFT)
SMALLEST = 1e-12


def magnitudes(mel: Array, sample_rate: int) -> Array:
    """Estimate the magnitudes |S| [513, T] whose LMNT mel is the given one.

    Inverts the decibels, then solves min ||B |S| - m|| for |S| >= 0 by multiplicative updates (Lee & Seung, 2001), from
    the pseudo-inverse on.

    Args:
        mel: float [M, T] of kind "lmnt".
        sample_rate: sample rate in Hz.
    """
    kind = KINDS["lmnt"]
    frequencies = np.linspace(0.0, sample_rate // 2, N_FFT // 2 + 1)
    bank = filter_bank(frequencies, kind.scale, len(mel), kind.fmin, sample_rate / 2) / np.linalg.norm(WINDOW)
    bands = 10.0 ** ((100.0 * mel.astype(np.float64) - 80.0) / 20.0)
    result: Array = np.maximum(np.linalg.pinv(bank) @ bands, SMALLEST)
    for _ in range(100):
        result *= (bank.T @ bands) / (bank.T @ (bank @ result) + SMALLEST)
    return result


def griffin_lim(
    mel: Array,
    sample_rate: int,
    *,
    rounds: int = 32,
    momentum: float = 0.99,
    seed: int = 0,
    each_round: Callable[[], None] | None = None,
) -> FloatArray:
    """Compute a waveform by fast Griffin-Lim (Perraudin et al., 2013).

    A round takes the phase of the waveform that has the current spectrum, and keeps the magnitudes. The default
    momentum and number of rounds are librosa's.

    Args:
        mel: float [M, T] of kind "lmnt".
        sample_rate: sample rate in Hz.
        rounds: number of corrections of the phase.
        momentum: 0 for the algorithm of Griffin and Lim (1984).
        seed: seed of the initial phase.
        each_round: called before every round; an exception of it ends the computation.

    Returns:
        float32 [256 T] in [-1, 1].
    """
    size = magnitudes(mel, sample_rate).T
    phase = np.exp(2j * np.pi * np.random.default_rng(seed).random(size.shape))
    previous = np.zeros_like(phase)
    for _ in range(rounds):
        if each_round is not None:
            each_round()
        rebuilt = _spectrum(_waveform(size * phase))
        phase = rebuilt - momentum / (1.0 + momentum) * previous
        phase /= np.abs(phase) + SMALLEST
        previous = rebuilt
    audio = _waveform(size * phase)[N_FFT // 2 :][: HOP * len(size)]
    return np.clip(audio, -1.0, 1.0).astype(np.float32)


def _spectrum(audio: Array) -> npt.NDArray[np.complexfloating[Any]]:
    frames = np.lib.stride_tricks.sliding_window_view(audio, N_FFT)[::HOP]
    return np.fft.rfft(frames * WINDOW)


def _waveform(spectrum: npt.NDArray[np.complexfloating[Any]]) -> Array:
    """Compute the waveform whose frames are nearest to a spectrum [T, 513]: windowed overlap-add over the energy."""
    frames = np.fft.irfft(spectrum) * WINDOW
    audio, energy = np.zeros((2, HOP * (len(frames) - 1) + N_FFT))
    for number, frame in enumerate(frames):
        audio[HOP * number :][:N_FFT] += frame
        energy[HOP * number :][:N_FFT] += WINDOW**2
    return np.asarray(audio / np.maximum(energy, 1e-3))
