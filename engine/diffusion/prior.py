"""PriorGrad's noise: its standard deviation follows the energy of the mel (Lee et al., ICLR 2022, section 4)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from engine.checks.arrays import FloatArray, on_device, to_numpy
from engine.errors import InputError

ENERGY_MAX = 4.0
STD_MIN = 0.1
FRAMES = 4096  # whose energy is computed at once


def energy_std(mel: Any, energy_min: float) -> FloatArray:
    """``max((min(E, 4) - energy_min) / (4 - energy_min), 0.1)``, ``E = sqrt(sum over bands of exp(mel))``.

    A frame's value does not depend on the frames beside it, to the last bit.

    Args:
        mel: [M,T], the natural logarithm of magnitudes; numpy or a tensor.
        energy_min: the smallest E of the training data, a figure that published checkpoints do not carry.

    Returns:
        std [T], of every frame.
    """
    frames = np.asarray(on_device(mel, None)).T
    std = np.empty(len(frames), np.float32)
    for begin in range(0, len(frames), FRAMES):
        block = np.array(frames[begin : begin + FRAMES], np.float64, order="C")
        energy = np.minimum(frame_energy(block), ENERGY_MAX)
        std[begin : begin + FRAMES] = np.maximum((energy - energy_min) / (ENERGY_MAX - energy_min), STD_MIN)
    return std


def frame_energy(mel: Any) -> npt.NDArray[np.float64]:
    """``E = sqrt(sum over bands of exp(mel))`` of every frame, of [T,M] float64."""
    energy: npt.NDArray[np.float64] = np.sqrt(np.exp(mel).sum(axis=1))
    return energy


def check_energy_min(energy_min: Any) -> float:
    """A number from 0 to below ENERGY_MAX; anything else raises InputError."""
    if isinstance(energy_min, bool) or not isinstance(energy_min, (int, float)) or not 0 <= energy_min < ENERGY_MAX:
        raise InputError(f"energy_min: expected a number from 0 to below {ENERGY_MAX:g}, got {energy_min!r:.80}")
    return float(energy_min)


def check_prior(
    needed: bool, std: Any, energy_min: Any, mels: list[Any], hop: int, known: float = 0.0
) -> list[tuple[FloatArray | None, int]]:
    """The standard deviation of every item's noise, as (values, samples per value); None for 1.

    Args:
        needed: the network has such a prior.
        std: the caller's own: [B,L], [L] for one item, or a list of [L_i]; or None.
        energy_min: else the statistic from which `energy_std` makes it.
        mels: the items' mels.
        hop: samples per frame.
        known: `Config.energy_min`, taken where neither is given, unless it is 0.

    Raises:
        InputError: both or neither is given where one is needed, one is given where none is, or a value is impossible.
    """
    if not needed:
        for name, value in (("std", std), ("energy_min", energy_min)):
            if value is not None:
                raise InputError(f"{name}: only a PriorGrad network takes one, and this network is none")
        return [(None, 1)] * len(mels)
    if std is None and energy_min is None and known:
        energy_min = known
    if (std is None) == (energy_min is None):
        raise InputError(
            "std: a PriorGrad network needs the standard deviation of its noise: pass std= [B, L], or energy_min=, the "
            f"smallest frame energy of its training data, got {'both' if std is not None else 'neither'}"
        )
    if std is None:
        limit = check_energy_min(energy_min)
        return [(energy_std(mel, limit), hop) for mel in mels]
    lengths = [mel.shape[1] * hop for mel in mels]
    parts = std if isinstance(std, (list, tuple)) else [std]
    rows: list[FloatArray] = []
    for part in parts:
        array = to_numpy(part, "std", ("float32", "float64"))
        rows.extend(np.ascontiguousarray(row, np.float32) for row in array.reshape(-1, array.shape[-1] or 1))
    if [len(row) for row in rows] != lengths:
        raise InputError(f"std: expected one value per sample, {lengths!s:.80}, got {[len(row) for row in rows]!s:.80}")
    for row in rows:
        if not (np.isfinite(row).all() and (row >= 0).all()):
            raise InputError("std: expected finite values >= 0, got others")
    return [(row, 1) for row in rows]
