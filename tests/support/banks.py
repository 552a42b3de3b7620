"""Mel filter banks from the scalar formulas of HTK and of Slaney's Auditory Toolbox, one triangle at a time."""

from __future__ import annotations

import math

import numpy as np


def corner_frequencies(scale: str, fmin: float, fmax: float, n_mels: int) -> list[float]:
    """Return the n_mels + 2 corners in Hz of the triangles on a mel scale, "htk" or "slaney"."""
    if scale == "htk":
        low, high = (2595 * math.log10(1 + f / 700) for f in (fmin, fmax))
    else:
        low, high = (3 * f / 200 if f < 1000 else 15 + 27 * math.log(f / 1000) / math.log(6.4) for f in (fmin, fmax))
    corners = []
    for i in range(n_mels + 2):
        m = low + (high - low) * i / (n_mels + 1)
        if scale == "htk":
            corners.append(700 * (10 ** (m / 2595) - 1))
        else:
            corners.append(200 * m / 3 if m < 15 else 1000 * 6.4 ** ((m - 15) / 27))
    return corners


def direct_bank(scale: str, rate: int, n_mels: int, fmin: float, fmax: float, nyquist: float) -> np.ndarray:
    """Build the bank [n_mels,513] bin by bin."""
    edges = corner_frequencies(scale, fmin, fmax, n_mels)
    bank = np.zeros((n_mels, 513))
    for b in range(n_mels):
        left, centre, right = edges[b : b + 3]
        for k in range(513):
            f = k * nyquist / 512
            if left < f <= centre:
                bank[b, k] = (f - left) / (centre - left)
            elif centre < f < right:
                bank[b, k] = (right - f) / (right - centre)
        if scale == "slaney":
            bank[b] *= 2 / (right - left)
    return bank
