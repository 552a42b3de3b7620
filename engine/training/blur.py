"""Mels that are not exact: blurred as those that an acoustic model predicts from text.

An exact mel is the analysis of a recording, so a waveform with exactly that mel exists, and phase retrieval finds one
without a network. A predicted mel is smoother than any analysis, and slightly wrong.
"""

from __future__ import annotations

import math

import numpy as np

from engine.audio.spectrogram import KINDS
from engine.checks.arrays import FloatArray
from engine.checks.mels import LMNT_RANGE
from engine.diffusion.noise import normal
from engine.errors import InputError

BANDS, FRAMES = 0.7, 1.0  # standard deviations of the blur
ERROR_DB = 1.0  # standard deviation of the error
DECIBEL = {"lmnt": 0.01}  # in the unit of a mel: lmnt's 0 to 1 is 100 dB
DECIBEL_OF_LOGARITHM = math.log(10.0) / 20.0
LOG_FLOOR = math.log(1e-5)


def blurred(mel: FloatArray, seed: int = 0, mel_kind: str | None = "lmnt", strength: float = 1.0) -> FloatArray:
    """Return a mel as an acoustic model might predict it: smoother, and with smooth errors.

        m' = clip(G m + e G z / ||G||)

    G is a Gaussian blur of the mel's values, which are logarithmic in every kind, with standard deviations of 0.7 bands
    and 1 frame; values beyond an edge are those at the edge. z is standard normal noise, a function of the seed, band
    and frame (`engine.diffusion.noise`). G z / ||G|| has variance 1, except near an edge. e is
    1 dB: 0.01 in an lmnt mel, ln(10) / 20 in the natural logarithm of the other kinds. The clip keeps lmnt's values
    in [0, 1], and those of the other kinds at ln(1e-5) or above.

    Args:
        mel: float32 [M, T].
        seed: of the errors, 0 to 2^64 - 1; one per clip makes their errors independent.
        mel_kind: `Config.mel_kind`.
        strength: a positive factor of the blur's standard deviations and of e.

    Returns:
        float32 [M, T].

    Raises:
        InputError: the kind of the mel is unknown.
    """
    from scipy.ndimage import gaussian_filter

    if mel_kind not in KINDS:
        raise InputError(f"mel_kind: expected one of {', '.join(KINDS)}, got {mel_kind!r:.80}")
    bands, frames = mel.shape
    z = normal(seed, 0, 0, bands * frames).reshape(frames, bands).T  # the first frames do not depend on their number
    width = (strength * BANDS, strength * FRAMES)
    smooth, error = (gaussian_filter(x.astype(np.float64), width, mode="nearest") for x in (mel, z))
    result = smooth + DECIBEL.get(mel_kind, DECIBEL_OF_LOGARITHM) * strength * ERROR_DB * error / _norm(width)
    low, high = LMNT_RANGE if mel_kind == "lmnt" else (LOG_FLOOR, np.inf)
    clipped: FloatArray = np.clip(result, low, high).astype(np.float32)
    return clipped


def _norm(width: tuple[float, float]) -> float:
    """Return ||G||: the standard deviation of white noise of variance 1 after the blur."""
    from scipy.ndimage import gaussian_filter

    reach = math.ceil(4.5 * max(width))  # SciPy cuts a Gaussian off at 4 standard deviations
    impulse = np.zeros((2 * reach + 1, 2 * reach + 1))
    impulse[reach, reach] = 1.0
    return float(np.linalg.norm(gaussian_filter(impulse, width)))
