"""Triangular mel filter banks on the two scales that libraries use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

BREAK_HZ, BREAK_MEL = 1000.0, 15.0  # Slaney's scale is linear below, 200/3 Hz per mel, and logarithmic above
LOG_STEP = np.log(6.4) / 27.0


def _htk_mel(hz: Array) -> Array:
    return 2595.0 * np.log10(1.0 + hz / 700.0)


def _htk_hz(mel: Array) -> Array:
    hz: Array = 700.0 * (10.0 ** (mel / 2595.0) - 1.0)
    return hz


def _slaney_mel(hz: Array) -> Array:
    above = BREAK_MEL + np.log(np.maximum(hz, BREAK_HZ) / BREAK_HZ) / LOG_STEP
    return np.where(hz < BREAK_HZ, hz * 3.0 / 200.0, above)


def _slaney_hz(mel: Array) -> Array:
    above = BREAK_HZ * np.exp(LOG_STEP * (np.maximum(mel, BREAK_MEL) - BREAK_MEL))
    return np.where(mel < BREAK_MEL, mel * 200.0 / 3.0, above)


@dataclass(frozen=True)
class Scale:
    """A scale of pitch: where bands are equally wide.

    Attributes:
        mel: from Hz.
        hz: back.
        area_norm: whether each triangle is divided by half its width in Hz, so that white noise excites all alike.
    """

    mel: Callable[[Array], Array]
    hz: Callable[[Array], Array]
    area_norm: bool


# htk: mel = 2595 log10(1 + f / 700). slaney: mel = 3 f / 200 below 1000 Hz, 15 + 27 ln(f / 1000) / ln(6.4) above.
SCALES = {
    "htk": Scale(_htk_mel, _htk_hz, area_norm=False),
    "slaney": Scale(_slaney_mel, _slaney_hz, area_norm=True),
}


def filter_bank(frequencies: Array, scale: str, n_mels: int, fmin: float, fmax: float) -> Array:
    """Triangles whose corners e_0 .. e_{M+1} are equally spaced in mel from fmin to fmax.

        M[b, k] = max(0, min((f_k - e_b) / (e_{b+1} - e_b), (e_{b+2} - f_k) / (e_{b+2} - e_{b+1}))) * norm_b
        norm_b = 2 / (e_{b+2} - e_b) on the slaney scale, 1 on the htk scale

    As librosa.filters.mel(htk=False, norm="slaney") and torchaudio.functional.melscale_fbanks(norm=None,
    mel_scale="htk"). A band narrower than the distance of two frequencies may be all zero, there as here.

    Args:
        frequencies: f_k in Hz, of the FFT's bins.
        scale: one of `SCALES`.
        n_mels: M.
        fmin: e_0 in Hz.
        fmax: e_{M+1} in Hz, greater than fmin.

    Returns:
        float64 [M, K].
    """
    of = SCALES[scale]
    low, high = of.mel(np.array([fmin, fmax], np.float64))
    edges = of.hz(np.linspace(low, high, n_mels + 2))
    slopes = (frequencies - edges[:, None]) / np.diff(edges, append=np.inf)[:, None]
    bank = np.maximum(0.0, np.minimum(slopes[:-2], 1.0 - slopes[1:-1]))
    return bank * (2.0 / (edges[2:] - edges[:-2]))[:, None] if of.area_norm else bank
