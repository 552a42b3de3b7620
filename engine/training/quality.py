"""The distance of generated audio from the recording of its mel. Needs the extra `train` or `quality`."""

from __future__ import annotations

import importlib.util
import math
import warnings

import numpy as np

from engine.audio.spectrogram import mel
from engine.checks.arrays import FloatArray
from engine.checks.installation import how_to_install
from engine.errors import InputError

PESQ_RATE = 16000  # Hz; PESQ-WB accepts no other rate


def check_installed() -> None:
    """Raise InputError unless the modules that `perceptual_scores` imports are installed.

    A training checks this before its first step instead of at its first validation.
    """
    for name in ("pesq", "pystoi", "scipy"):
        if importlib.util.find_spec(name) is None:
            raise InputError(f"validate_every: {name} is not installed; run {how_to_install('train')}, or set it to 0")


def perceptual_scores(recording: FloatArray, audio: FloatArray, rate: int) -> tuple[float, float]:
    """Return (PESQ-WB, STOI) of audio against a recording of the same length.

    Either is NaN where it is undefined: PESQ needs a quarter of a second with speech in it, STOI 0.4 s of speech.

    Args:
        recording: [L].
        audio: [L].
        rate: of both, in Hz.
    """
    from pesq import BufferTooShortError, NoUtterancesError, pesq
    from scipy.signal import resample_poly

    reference, degraded = (resample_poly(signal.astype(np.float64), PESQ_RATE, rate) for signal in (recording, audio))
    if not (reference.any() and degraded.any()):
        return math.nan, math.nan
    try:
        return float(pesq(PESQ_RATE, reference, degraded, "wb")), _stoi(recording, audio, rate)
    except (BufferTooShortError, NoUtterancesError):
        return math.nan, math.nan


def _stoi(recording: FloatArray, audio: FloatArray, rate: int) -> float:
    from pystoi import stoi

    with warnings.catch_warnings():
        warnings.filterwarnings("error", "Not enough STFT frames", RuntimeWarning)
        try:
            return float(stoi(recording, audio, rate))
        except RuntimeWarning:  # without the filter it returns 1e-5
            return math.nan


def log_mel_error(recording: FloatArray, audio: FloatArray, rate: int) -> float:
    """Return the mean absolute difference of two log-mels (Tacotron 2's: 80 bands, natural logarithm).

    Args:
        recording: [L].
        audio: [L].
        rate: of both, in Hz.
    """
    expected, actual = (mel(signal, rate, kind="tacotron") for signal in (recording, audio))
    return float(np.abs(expected - actual).mean())
