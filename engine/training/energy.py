"""Weights of errors that are larger where a recording is quiet."""

from __future__ import annotations

import numpy as np

from engine.checks.arrays import FloatArray
from engine.config import Config
from engine.diffusion.prior import STD_MIN, frame_energy

LMNT_LOG_RANGE = 5.0 * np.log(10.0)  # of a mel from 0 to 1, 100 dB


def energy_weight(mel: FloatArray, config: Config) -> FloatArray:
    """Return the weight of the errors in every frame of a crop, [T].

    The inverse of PriorGrad's energy of the frame, relative to that of the loudest frame and at least `STD_MIN` of it.
    The mean over the crop is 1, so a crop's loudness does not change its share of the gradient.

    Args:
        mel: [M,T] of the network's kind.
        config: the network, with a known kind of mel.
    """
    values = mel.T.astype(np.float64)
    energy = frame_energy(values * LMNT_LOG_RANGE if config.mel_kind == "lmnt" else values)
    inverse = 1.0 / np.maximum(energy / energy.max(), STD_MIN)
    weight: FloatArray = (inverse / inverse.mean()).astype(np.float32)
    return weight
