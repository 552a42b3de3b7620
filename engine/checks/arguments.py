"""Validation of the smaller arguments: sample rate, seed, noise and the like. Mels are in `engine.checks.mels`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from engine.checks.arrays import FloatArray, to_numpy
from engine.config import MAX_GUIDANCE, Config
from engine.errors import InputError

MAX_SEED = 2**64 - 1
LOUDEST = 8.0  # of a recording: noise of deviation 1 stays below it, 16-bit integers do not


def _is_int(value: object) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def check_sample_rate(sample_rate: Any) -> int:
    """An integer from 1000 to 384000 Hz, as in `Config`; anything else raises InputError."""
    if not _is_int(sample_rate) or not 1000 <= sample_rate <= 384000:
        raise InputError(f"sample_rate: expected an integer from 1000 to 384000 Hz, got {sample_rate!r:.80}")
    return int(sample_rate)


def check_seed(seed: Any, n: int) -> list[int]:
    """One seed for each of n items.

    An integer s gives s, s + 1, ..., s + n - 1; a list, tuple, range or 1-D integer array is taken as it is.
    Raises InputError for anything that is not an integer from 0 to 2**64 - 1 or when the length is not n.
    """
    if _is_int(seed):
        seeds = [int(seed) + i for i in range(n)]
    elif isinstance(seed, (list, tuple, range)) or (isinstance(seed, np.ndarray) and seed.ndim == 1):
        if len(seed) != n:
            raise InputError(f"seed: expected one seed per item ({n}), got {len(seed)}")
        for i, value in enumerate(seed):
            if not _is_int(value):
                raise InputError(f"seed[{i}]: expected an integer, got {value!r:.80}")
        seeds = [int(value) for value in seed]
    else:
        raise InputError(f"seed: expected an integer or one integer per item, got {seed!r:.80}")
    for value in seeds:
        if not 0 <= value <= MAX_SEED:
            raise InputError(f"seed: expected integers from 0 to 2**64 - 1, got {value}")
    return seeds


def check_noise(noise: Any, lengths: Sequence[int], steps: int) -> list[tuple[FloatArray, FloatArray]]:
    """The caller's own noise, split by item.

    Args:
        noise: (x_T, z), float32 or float64, numpy or torch: x_T [B, L] is where the reverse process starts,
            z [S-1, B, L] what its steps add, in the order of execution (the last adds none). For one item
            x_T [L] and z [S-1, L] do as well.
        lengths: samples per item, B of them.
        steps: S, the length of the schedule.

    Returns:
        Per item (x_T [L], z [S-1, L]) in float32, views of the caller's memory where it is float32 already.

    Raises:
        InputError: the items differ in length, a shape or an element type is wrong, or a value is not finite.
    """
    if not isinstance(noise, (tuple, list)) or len(noise) != 2:
        raise InputError(f"noise: expected a pair (x_T, z), got {type(noise).__name__}")
    if len(set(lengths)) != 1:
        raise InputError(f"noise: expected items of one length, got lengths {list(lengths)!s:.80}; use seed instead")
    batch, length = len(lengths), lengths[0]
    x_t = _noise_part(noise[0], "x_T", (batch, length), batch)
    z = _noise_part(noise[1], "z", (steps - 1, batch, length), batch)
    return [(x_t[i], z[:, i]) for i in range(batch)]


def _noise_part(value: Any, name: str, shape: tuple[int, ...], batch: int) -> FloatArray:
    """Value as float32 of this shape, the batch axis (last but one) being optional when batch is 1."""
    name = f"noise {name}"
    array = to_numpy(value, name, ("float32", "float64"))
    allowed = [shape] if batch > 1 else [shape, (*shape[:-2], shape[-1])]
    if array.shape not in allowed:
        raise InputError(f"{name}: expected shape {' or '.join(map(str, allowed))}, got {array.shape}")
    with np.errstate(over="ignore"):  # a float64 beyond float32's range becomes infinite and is refused below
        array = array.astype(np.float32, copy=False)
    if not np.isfinite(array).all():
        raise InputError(f"{name}: expected finite values, got NaN or infinity")
    return array.reshape(shape)


def check_count(value: Any, name: str, most: int = 2**31 - 1) -> int:
    """An integer from 1 to most; anything else raises InputError."""
    if not _is_int(value) or not 1 <= value <= most:
        raise InputError(f"{name}: expected an integer from 1 to {most}, got {value!r:.80}")
    return int(value)


def check_signal(x: Any, name: str = "x") -> FloatArray:
    """x [B,L] or [L], float32, finite, not empty, as [B,L]; anything else raises InputError."""
    array = to_numpy(x, name, ("float32",))
    if array.ndim not in (1, 2) or array.size == 0:
        raise InputError(f"{name}: expected shape [B, L] or [L], not empty, got {array.shape}")
    if not np.isfinite(array).all():
        raise InputError(f"{name}: expected finite values, got NaN or infinity")
    return array.reshape(-1, array.shape[-1])


def check_recording(audio: Any, name: str) -> FloatArray:
    """As `check_signal`, for samples in about [-1, 1]: InputError where they are on another scale."""
    array = check_signal(audio, name)
    loudest = float(np.abs(array).max())
    if loudest > LOUDEST:
        raise InputError(
            f"{name}: expected samples in about [-1, 1], got up to {loudest:.6g}; divide 16-bit samples by 32768"
        )
    return array


def check_fraction(value: Any, name: str) -> float:
    """A number from 0 to 1; anything else raises InputError."""
    if not _is_number(value) or not 0.0 <= value <= 1.0:
        raise InputError(f"{name}: expected a number from 0 to 1, got {value!r:.80}")
    return float(value)


def check_guidance(value: Any, config: Config) -> float:
    """How far to go from "no label" to the label; None is the network's own (`Config.guidance`), or 1 without one.

    Raises InputError where the network cannot be guided, or for anything but a number from 0 to `MAX_GUIDANCE`.
    """
    if value is None:
        return config.guidance if config.labels > len(config.classes) else 1.0
    if not config.classes:
        raise InputError(f"guidance: this network has no classes; expected None, got {value!r:.80}")
    if not _is_number(value) or not 0.0 <= value <= MAX_GUIDANCE:
        raise InputError(f"guidance: expected a number from 0 to {MAX_GUIDANCE:g}, got {value!r:.80}")
    if value != 1.0 and not config.guidance:
        raise InputError(
            f"guidance: this network never learnt to be without a label; expected None or 1, got {value!r}"
        )
    return float(value)


def check_seconds(seconds: Any, sample_rate: int) -> int:
    """A length in seconds as samples, 1 to 2**31 - 1 of them; anything else raises InputError."""
    most = 2**31 - 1
    count = round(seconds * sample_rate) if _is_number(seconds) and math.isfinite(seconds) else 0
    if not 1 <= count <= most:
        raise InputError(
            f"seconds: expected a number that gives 1 to {most} samples at {sample_rate} Hz, got {seconds!r:.80}"
        )
    return count


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
