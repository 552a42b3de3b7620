"""How close made audio comes to the recording that its mel was taken from. Needs the extra `train` or `quality`."""

from __future__ import annotations

import importlib.util
import math
import warnings

import numpy as np

from engine.audio.spectrogram import mel
from engine.checks.arrays import FloatArray
from engine.errors import InputError


def check_installed() -> None:
    """InputError unless `perceived` can work: better at once than after a thousand steps."""
    for name in ("pesq", "pystoi", "scipy"):
        if importlib.util.find_spec(name) is None:
            raise InputError(
                f"validate_every: {name} is missing; run pip install -e '.[train]' in the source folder, or say 0"
            )


def perceived(recording: FloatArray, audio: FloatArray, rate: int) -> tuple[float, float]:
    """(PESQ-WB, STOI) of audio against a recording of the same length; 16 kHz is all that PESQ-WB knows.

    Either is NaN where it cannot judge: PESQ wants a quarter of a second with speech in it, STOI 0.4 s of speech.
    """
    from pesq import BufferTooShortError, NoUtterancesError, pesq
    from scipy.signal import resample_poly

    wanted, got = (resample_poly(signal.astype(np.float64), 16000, rate) for signal in (recording, audio))
    if not (wanted.any() and got.any()):
        return math.nan, math.nan
    try:
        return float(pesq(16000, wanted, got, "wb")), _stoi(recording, audio, rate)
    except (BufferTooShortError, NoUtterancesError):
        return math.nan, math.nan


def _stoi(recording: FloatArray, audio: FloatArray, rate: int) -> float:
    from pystoi import stoi

    with warnings.catch_warnings():
        warnings.filterwarnings("error", "Not enough STFT frames", RuntimeWarning)
        try:
            return float(stoi(recording, audio, rate))
        except RuntimeWarning:  # else it would return 1e-5
            return math.nan


def log_mel_error(recording: FloatArray, audio: FloatArray, rate: int) -> float:
    """Mean distance of the two log-mels (80 bands, natural logarithm; Tacotron 2's), of signals of the same length."""
    wanted, got = (mel(signal, rate, kind="tacotron") for signal in (recording, audio))
    return float(np.abs(wanted - got).mean())
