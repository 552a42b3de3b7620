"""PriorGrad's prior: noise with a standard deviation computed from the mel (Lee et al., ICLR 2022, section 4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.checks.arrays import FloatArray, on_device, to_numpy
from engine.config import ENERGY_MAX, Config
from engine.errors import InputError

STD_MIN = 0.1
FRAMES_PER_BLOCK = 4096  # limits the float64 copy of a long mel


def energy_std(mel: Any, energy_min: float) -> FloatArray:
    """Compute the standard deviation of the noise of every frame.

    ``max((min(E, 4) - energy_min) / (4 - energy_min), 0.1)``, ``E = sqrt(sum over bands of exp(mel))``

    Every bit of a frame's value is independent of the neighboring frames.

    Args:
        mel: [M,T], the natural logarithm of magnitudes; numpy or a tensor.
        energy_min: the smallest E of the training data. Published checkpoints do not contain it.

    Returns:
        std [T], float32.
    """
    frames = np.asarray(on_device(mel, None)).T
    std = np.empty(len(frames), np.float32)
    for begin in range(0, len(frames), FRAMES_PER_BLOCK):
        block = np.array(frames[begin : begin + FRAMES_PER_BLOCK], np.float64, order="C")
        energy = np.minimum(frame_energy(block), ENERGY_MAX)
        std[begin : begin + FRAMES_PER_BLOCK] = np.maximum((energy - energy_min) / (ENERGY_MAX - energy_min), STD_MIN)
    return std


def frame_energy(mel: Any) -> npt.NDArray[np.float64]:
    """Compute the energy of every frame, ``E = sqrt(sum over bands of exp(mel))``.

    Args:
        mel: [T,M] float64, frames first.

    Returns:
        [T].
    """
    energy: npt.NDArray[np.float64] = np.sqrt(np.exp(mel).sum(axis=1))
    return energy


def check_energy_min(energy_min: Any) -> float:
    """Return a number from 0 to below ENERGY_MAX; raise InputError for anything else."""
    if isinstance(energy_min, bool) or not isinstance(energy_min, (int, float)) or not 0 <= energy_min < ENERGY_MAX:
        raise InputError(f"energy_min: expected a number from 0 to below {ENERGY_MAX:g}, got {energy_min!r:.80}")
    return float(energy_min)


def resolve_energy_min(config: Config, energy_min: Any) -> float | None:
    """Return the smallest frame energy of the training data: the caller's, or the one recorded in the checkpoint.

    Args:
        config: the network; `Config.energy_min` is the recorded value.
        energy_min: the caller's value, or None.

    Returns:
        The value; None for a network without a prior, and if neither value is known.

    Raises:
        InputError: the network takes none, or the value is impossible.
    """
    if not config.prior:
        _refuse_without_prior("energy_min", energy_min)
        return None
    return check_energy_min(energy_min) if energy_min is not None else config.energy_min or None


def check_prior(
    config: Config, mels: Sequence[Any], *, std: Any, energy_min: Any
) -> list[tuple[FloatArray | None, int]]:
    """Return the standard deviation of every item's noise.

    Args:
        config: the network.
        mels: the items' mels, [M,T_i] each.
        std: the caller's values: [B,L], [L] for one item, or a list of [L_i]; None to compute them from `energy_min`.
        energy_min: the statistic for `energy_std`, instead of `std`; None for the recorded one (`Config.energy_min`).

    Returns:
        (values, samples per value) per item; (None, 1) for a standard deviation of 1.

    Raises:
        InputError: the network needs exactly one of the two and got both or neither, it takes none, or a value is
            impossible.
    """
    if not config.prior:
        _refuse_without_prior("std", std)
        _refuse_without_prior("energy_min", energy_min)
        return [(None, 1)] * len(mels)
    limit = resolve_energy_min(config, energy_min) if std is None else None
    if (std is None and limit is None) or (std is not None and energy_min is not None):
        raise InputError(
            "std: a PriorGrad network needs the standard deviation of its noise: pass std= [B, L], or energy_min=, the "
            f"smallest frame energy of its training data, got {'both' if std is not None else 'neither'}"
        )
    if limit is not None:
        return [(energy_std(mel, limit), config.hop) for mel in mels]
    lengths = [mel.shape[1] * config.hop for mel in mels]
    rows: list[FloatArray] = []
    for part in std if isinstance(std, (list, tuple)) else [std]:
        array = to_numpy(part, "std", ("float32", "float64"))
        rows.extend(np.ascontiguousarray(row, np.float32) for row in array.reshape(-1, array.shape[-1] or 1))
    if [len(row) for row in rows] != lengths:
        raise InputError(f"std: expected one value per sample, {lengths!s:.80}, got {[len(row) for row in rows]!s:.80}")
    for row in rows:
        if not (np.isfinite(row).all() and (row >= 0).all()):
            raise InputError("std: expected finite values >= 0, got others")
    return [(row, 1) for row in rows]


def _refuse_without_prior(name: str, value: object) -> None:
    if value is not None:
        raise InputError(f"{name}: only a PriorGrad network takes one; expected None, got {type(value).__name__}")
