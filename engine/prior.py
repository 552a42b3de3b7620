"""PriorGrad's noise: its standard deviation follows the energy of the mel (Lee et al., ICLR 2022, section 4)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from engine.arrays import on_device, to_numpy
from engine.errors import InputError

ENERGY_MAX = 4.0
STD_MIN = 0.1

Array = npt.NDArray[np.float32]


def energy_std(mel: Any, hop: int, energy_min: float) -> Array:
    """``max((min(E, 4) - energy_min) / (4 - energy_min), 0.1)``, ``E = sqrt(sum over bands of exp(mel))``.

    Args:
        mel: [M,T], the natural logarithm of magnitudes; numpy or a tensor.
        hop: samples per frame.
        energy_min: the smallest E of the training data, a figure that no checkpoint carries.

    Returns:
        std [T * hop], constant over a frame.
    """
    energy = np.sqrt(np.exp(np.asarray(on_device(mel, None), np.float64)).sum(axis=0))
    std = (np.minimum(energy, ENERGY_MAX) - energy_min) / (ENERGY_MAX - energy_min)
    return np.repeat(np.maximum(std, STD_MIN), hop).astype(np.float32)


def check_prior(needed: bool, std: Any, energy_min: Any, mels: list[Any], hop: int) -> list[Array | None]:
    """The standard deviation of every item's noise, [L_i] each; None where the network was trained with 1.

    Args:
        needed: the network has such a prior.
        std: the caller's own: [B,L], [L] for one item, or a list of [L_i]; or None.
        energy_min: else the statistic from which `energy_std` makes it.
        mels: the items' mels.
        hop: samples per frame.

    Raises:
        InputError: both or neither is given where one is needed, one is given where none is, or a value is impossible.
    """
    if not needed:
        for name, value in (("std", std), ("energy_min", energy_min)):
            if value is not None:
                raise InputError(f"{name}: only a PriorGrad network takes one, and this network is none")
        return [None] * len(mels)
    if (std is None) == (energy_min is None):
        raise InputError(
            "std: a PriorGrad network needs the standard deviation of its noise: pass std= [B, L], or energy_min=, the "
            f"smallest frame energy of its training data, got {'both' if std is not None else 'neither'}"
        )
    if std is None:
        if isinstance(energy_min, bool) or not isinstance(energy_min, (int, float)) or not 0 <= energy_min < ENERGY_MAX:
            raise InputError(f"energy_min: expected a number from 0 to below {ENERGY_MAX:g}, got {energy_min!r:.80}")
        return [energy_std(mel, hop, float(energy_min)) for mel in mels]
    lengths = [mel.shape[1] * hop for mel in mels]
    parts = std if isinstance(std, (list, tuple)) else [std]
    rows: list[Array] = []
    for part in parts:
        array = to_numpy(part, "std", ("float32", "float64"))
        rows.extend(np.ascontiguousarray(row, np.float32) for row in array.reshape(-1, array.shape[-1] or 1))
    if [len(row) for row in rows] != lengths:
        raise InputError(f"std: expected one value per sample, {lengths!s:.80}, got {[len(row) for row in rows]!s:.80}")
    for row in rows:
        if not (np.isfinite(row).all() and (row >= 0).all()):
            raise InputError("std: expected finite values >= 0, got others")
    return list(rows)
