"""Validation of the smaller arguments: seeds, noise, lengths, numbers. Mels are in `engine.checks.mels`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from engine.checks.arrays import FloatArray, to_numpy
from engine.config import MAX_GUIDANCE, MAX_SAMPLE_RATE, MAX_SAMPLES, MIN_SAMPLE_RATE, Config
from engine.errors import InputError

MAX_SEED = 2**64 - 1
LOUDEST = 8.0  # largest absolute sample value: noise of deviation 1 stays below it, 16-bit integers do not


def _is_int(value: object) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)


def check_sample_rate(sample_rate: Any) -> int:
    """Return an integer within the limits of `Config.sample_rate`; raise InputError for anything else."""
    if not _is_int(sample_rate) or not MIN_SAMPLE_RATE <= sample_rate <= MAX_SAMPLE_RATE:
        limits = f"{MIN_SAMPLE_RATE} to {MAX_SAMPLE_RATE}"
        raise InputError(f"sample_rate: expected an integer from {limits} Hz, got {sample_rate!r:.80}")
    return int(sample_rate)


def check_seed(seed: Any, count: int) -> list[int]:
    """Return one seed for each of `count` items.

    Args:
        seed: an integer s for s, s + 1, ..., which may be an array or tensor without axes; or one integer per item in a
            list, tuple, range or 1-D integer array.
        count: the number of items.

    Raises:
        InputError: a seed is not an integer from 0 to 2**64 - 1, or their number is wrong.
    """
    if getattr(seed, "ndim", 1) == 0 and not isinstance(seed, np.ma.MaskedArray):
        seed = seed.item()
    if _is_int(seed):
        seeds = [int(seed) + i for i in range(count)]
    elif isinstance(seed, (list, tuple, range)) or (
        isinstance(seed, np.ndarray) and seed.ndim == 1 and not isinstance(seed, np.ma.MaskedArray)
    ):
        if len(seed) != count:
            raise InputError(f"seed: expected one seed per item ({count}), got {len(seed)}")
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
    """Split the caller's noise by item.

    Args:
        noise: (x_T, z), float32 or float64, NumPy or torch. x_T [B, L] starts the reverse process; its steps add
            z [S-1, B, L] in the order of execution, the last step none. One item may also be x_T [L] and z [S-1, L].
        lengths: samples per item, B of them.
        steps: S, the length of the schedule.

    Returns:
        Per item (x_T [L], z [S-1, L]) in float32; views of the caller's memory where that is float32 already.

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
    """Return a value as float32 of this shape; the batch axis (last but one) is optional for a batch of 1."""
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


def check_count(value: Any, name: str, most: int = MAX_SAMPLES) -> int:
    """Return an integer from 1 to `most`; raise InputError for anything else."""
    if not _is_int(value) or not 1 <= value <= most:
        raise InputError(f"{name}: expected an integer from 1 to {most}, got {value!r:.80}")
    return int(value)


def check_number(value: Any, name: str) -> float:
    """Return a finite or infinite number as a float; raise InputError for anything else."""
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"{name}: expected a number, got {value!r:.80}") from None


def check_fraction(value: Any, name: str) -> float:
    """Return a number from 0 to 1; raise InputError for anything else."""
    if not _is_number(value) or not 0.0 <= value <= 1.0:
        raise InputError(f"{name}: expected a number from 0 to 1, got {value!r:.80}")
    return float(value)


def check_signal(x: Any, name: str = "x") -> FloatArray:
    """Return finite float32 samples [B, L] or [L] as [B, L]; raise InputError for anything else."""
    array = to_numpy(x, name, ("float32",))
    if array.ndim not in (1, 2) or array.size == 0:
        raise InputError(f"{name}: expected shape [B, L] or [L], not empty, got {array.shape}")
    if not np.isfinite(array).all():
        raise InputError(f"{name}: expected finite values, got NaN or infinity")
    return array.reshape(-1, array.shape[-1])


def check_recording(audio: Any, name: str) -> FloatArray:
    """Return `check_signal` of samples in about [-1, 1]; raise InputError for samples on another scale."""
    array = check_signal(audio, name)
    loudest = float(np.abs(array).max())
    if loudest > LOUDEST:
        raise InputError(
            f"{name}: expected samples in about [-1, 1], got up to {loudest:.6g}; divide 16-bit samples by 32768"
        )
    return array


def check_guidance(value: Any, config: Config) -> float:
    """Return the weight of classifier-free guidance; None is the network's own (`Config.guidance`), or 1.

    Raises:
        InputError: the network cannot be guided, or the value is not a number from 0 to `MAX_GUIDANCE`.
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


def check_temperature(value: Any, config: Config) -> float:
    """Return the temperature of generated clips; None is the network's own (`Config.temperature`).

    Raises:
        InputError: the value is not a number from 0 to 1.
    """
    return config.temperature if value is None else check_fraction(value, "temperature")


def check_clip_length(config: Config, seconds: Any, samples: Any, noise: Any) -> int:
    """Return the samples of a generated clip: from `seconds`, `samples`, the shape of x_T, or `Config.clip_samples`.

    Raises:
        InputError: both `seconds` and `samples` are there, none of the four is, or a value is impossible.
    """
    if seconds is not None:
        if samples is not None:
            raise InputError(f"samples: expected None beside seconds, got {samples!r:.80}")
        return _samples_of(seconds, config.sample_rate)
    if samples is None and isinstance(noise, (tuple, list)) and noise:
        samples = next(iter(reversed(getattr(noise[0], "shape", ()))), None)
    if samples is None and config.clip_samples:
        samples = config.clip_samples
    if samples is None:
        raise InputError("samples: expected an integer, or seconds; this network does not tell the length of its clips")
    return check_count(samples, "samples")


def _samples_of(seconds: Any, sample_rate: int) -> int:
    count = round(seconds * sample_rate) if _is_number(seconds) and math.isfinite(seconds) else 0
    if not 1 <= count <= MAX_SAMPLES:
        raise InputError(
            f"seconds: expected a number that gives 1 to {MAX_SAMPLES} samples at {sample_rate} Hz, got {seconds!r:.80}"
        )
    return count


def check_reflection(config: Config, length: int, name: str = "mel") -> None:
    """Raise InputError for audio that is too short for a network that pads by reflection."""
    furthest = max(config.dilations)
    if config.padding == "reflect" and length <= furthest:
        raise InputError(
            f"{name}: this network pads by reflection and needs more than {furthest} samples, got {length}"
        )
