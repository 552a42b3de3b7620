"""Triangular mel filter banks on the two mel scales in common use, HTK and Slaney."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Float64Array: TypeAlias = npt.NDArray[np.float64]

BREAK_HZ, BREAK_MEL = 1000.0, 15.0  # Slaney's scale is linear below, 200/3 Hz per mel, and logarithmic above
LOG_STEP = np.log(6.4) / 27.0


def _htk_mel(hz: Float64Array) -> Float64Array:
    return 2595.0 * np.log10(1.0 + hz / 700.0)


def _htk_hz(mel: Float64Array) -> Float64Array:
    hz: Float64Array = 700.0 * (10.0 ** (mel / 2595.0) - 1.0)
    return hz


def _slaney_mel(hz: Float64Array) -> Float64Array:
    above = BREAK_MEL + np.log(np.maximum(hz, BREAK_HZ) / BREAK_HZ) / LOG_STEP
    return np.where(hz < BREAK_HZ, hz * 3.0 / 200.0, above)


def _slaney_hz(mel: Float64Array) -> Float64Array:
    above = BREAK_HZ * np.exp(LOG_STEP * (np.maximum(mel, BREAK_MEL) - BREAK_MEL))
    return np.where(mel < BREAK_MEL, mel * 200.0 / 3.0, above)


@dataclass(frozen=True)
class Scale:
    """A pitch scale on which all bands of a filter bank have the same width.

    Attributes:
        mel: converts Hz to mel.
        hz: converts mel to Hz.
        area_norm: whether each triangle is divided by half its width in Hz, so that white noise excites all bands
            equally.
    """

    mel: Callable[[Float64Array], Float64Array]
    hz: Callable[[Float64Array], Float64Array]
    area_norm: bool


# htk: mel = 2595 log10(1 + f / 700). slaney: mel = 3 f / 200 below 1000 Hz, 15 + 27 ln(f / 1000) / ln(6.4) above.
SCALES = {
    "htk": Scale(_htk_mel, _htk_hz, area_norm=False),
    "slaney": Scale(_slaney_mel, _slaney_hz, area_norm=True),
}


def filter_bank(frequencies: Float64Array, scale: str, n_mels: int, fmin: float, fmax: float) -> Float64Array:
    """Compute triangular filters whose corners e_0 .. e_{M+1} are equally spaced in mel from fmin to fmax.

        M[b, k] = max(0, min((f_k - e_b) / (e_{b+1} - e_b), (e_{b+2} - f_k) / (e_{b+2} - e_{b+1}))) * norm_b
        norm_b = 2 / (e_{b+2} - e_b) on the slaney scale, 1 on the htk scale

    The result equals librosa.filters.mel(htk=False, norm="slaney") and
    torchaudio.functional.melscale_fbanks(norm=None, mel_scale="htk"). As in those libraries, a band that is narrower
    than the distance of two bins may be all zero.

    Args:
        frequencies: f_k, the frequencies of the FFT's bins in Hz.
        scale: a key of `SCALES`.
        n_mels: M, the number of bands.
        fmin: e_0 in Hz.
        fmax: e_{M+1} in Hz, greater than fmin.

    Returns:
        float64 [M, K].
    """
    pitch = SCALES[scale]
    low, high = pitch.mel(np.array([fmin, fmax], np.float64))
    edges = pitch.hz(np.linspace(low, high, n_mels + 2))
    slopes = (frequencies - edges[:, None]) / np.diff(edges, append=np.inf)[:, None]
    bank = np.maximum(0.0, np.minimum(slopes[:-2], 1.0 - slopes[1:-1]))
    return bank * (2.0 / (edges[2:] - edges[:-2]))[:, None] if pitch.area_norm else bank
