"""Vocoders without a network: Griffin-Lim and corrected noise, for every kind of mel."""

from __future__ import annotations

import numpy as np
import pytest

import engine
from benchmarks.quality.no_network import corrected_noise
from engine.audio.griffin_lim import griffin_lim
from engine.audio.mel_inversion import magnitudes
from engine.audio.spectrogram import KINDS
from engine.checks.arrays import FloatArray

RATE = 22050


def sound(seconds: float = 0.4) -> FloatArray:
    """Return gliding harmonics in syllables."""
    time = np.arange(int(RATE * seconds)) / RATE
    phase = 2 * np.pi * np.cumsum(150 + 60 * time) / RATE
    harmonics = sum(np.sin(k * phase + k) / k for k in range(1, 20))
    return (0.1 * harmonics * (0.6 + 0.4 * np.sin(2 * np.pi * 4 * time))).astype(np.float32)


def error(audio: FloatArray, mel: FloatArray, kind: str) -> float:
    measured = engine.mel(audio, RATE, kind=kind)[:, : mel.shape[1]]
    return float(np.abs(measured - mel[:, : measured.shape[1]]).mean()) / float(mel.std())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("vocoder", [griffin_lim, corrected_noise])
def test_the_mel_is_approached_by_rounds(vocoder, kind: str) -> None:  # type: ignore[no-untyped-def]
    mel = engine.mel(sound(), RATE, kind=kind)
    noise = 0.1 * np.random.default_rng(0).standard_normal(len(sound())).astype(np.float32)
    errors = [error(vocoder(mel, RATE, kind=kind, rounds=rounds), mel, kind) for rounds in (1, 6, 24)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.6 * errors[0] and errors[-1] < 0.1 * error(noise, mel, kind), errors


@pytest.mark.parametrize("vocoder", [griffin_lim, corrected_noise])
def test_the_length_and_the_seed(vocoder) -> None:  # type: ignore[no-untyped-def]
    mel = engine.mel(sound(0.2), RATE)
    audio = vocoder(mel, RATE, rounds=2)
    assert audio.dtype == np.float32 and len(audio) == 256 * mel.shape[1] and np.abs(audio).max() <= 1
    assert (audio == vocoder(mel, RATE, rounds=2)).all()
    assert (audio != vocoder(mel, RATE, rounds=2, seed=1)).any()


def test_silence_stays_silent() -> None:
    for vocoder in (griffin_lim, corrected_noise):
        audio = vocoder(np.zeros((80, 12), np.float32), RATE, rounds=3)
        assert np.isfinite(audio).all() and np.abs(audio).max() < 5e-3


def test_a_lower_fmax_leaves_the_top_empty() -> None:
    mel = engine.mel(sound(), RATE, kind="tacotron", fmax=4000.0)
    assert magnitudes(mel, RATE, "tacotron", 4000.0)[200:].max() < 1e-6  # bin 186 is at 4 kHz
    audio = corrected_noise(mel, RATE, kind="tacotron", fmax=4000.0, rounds=8)
    power = np.abs(np.fft.rfft(audio)) ** 2
    assert power[int(len(power) * 5000 / 11025) :].sum() < 1e-3 * power.sum()
