"""Validation of mels. Every message names the argument, what was expected and what was passed."""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from engine.checks.arrays import device_of, dtype_name, on_device, stack, to_numpy
from engine.config import Config
from engine.errors import InputError

if TYPE_CHECKING:
    import torch

LOG_KINDS = ("tacotron", "hifigan", "speechbrain")
LMNT_RANGE = (-0.01, 1.01)
LOG_RANGE = (-12.0, 5.0)  # the floor is ln(1e-5) = -11.51

Bounds = tuple[float, float]  # the smallest and the largest value


@dataclass(frozen=True, eq=False)
class MelBatch:
    """Checked mels, and the form in which the caller expects the audio.

    Attributes:
        items: float32 [M, T_i] per utterance: views of the caller's memory, not always contiguous. NumPy arrays, or
            tensors where they stay on their device.
        form: what the caller passed: one [M, T], a [B, M, T], or a list or tuple of [M, T_i].
        devices: per item the device of the caller's tensor, None for NumPy.
        bounds: over all items.
    """

    items: list[Any]
    form: Literal["single", "batch", "list"]
    devices: list[torch.device | None]
    bounds: Bounds

    def lengths(self, hop: int) -> list[int]:
        """Return the samples of every item: frames times hop."""
        return [item.shape[1] * hop for item in self.items]

    def restore(self, audios: Sequence[Any]) -> Any:
        """Return the audio in the caller's form: [M, T] -> [L], [B, M, T] -> [B, L], a list -> a list of [L_i].

        Args:
            audios: one float32 [L_i] per item, L_i = T_i * hop, arrays or tensors.

        Returns:
            NumPy arrays for NumPy arrays, tensors for tensors, each on the device of its mel.
        """
        if self.form == "batch":
            return on_device(stack(audios), self.devices[0])
        restored = [on_device(audio, device) for audio, device in zip(audios, self.devices, strict=True)]
        return restored[0] if self.form == "single" else restored


def check_mel(mel: Any, config: Config, device: str = "cpu") -> MelBatch:
    """Check the type, shape and finiteness of a mel in any form.

    Tensors are detached. Tensors on another device than `device` come to the CPU as arrays; nothing else is copied or
    converted. `check_range` compares the values with the checkpoint's kind of mel.

    Args:
        mel: float32 [M, T], [B, M, T] or a list or tuple of [M, T_i], NumPy or torch.
        config: of the network.
        device: the type of device on which tensors may stay.

    Raises:
        InputError: the network takes no mel, or the type, element type, rank, band count or a value is wrong.
    """
    bands = config.n_mels
    if bands == 0:
        raise InputError("mel: this network takes none; generate makes sound with it")
    if not isinstance(mel, (list, tuple)):
        array, where = _read(mel, "mel", device, bands, batch_too=True)
        if array.ndim == 2:
            return MelBatch([array], "single", [where], _finite_bounds(array, "mel"))
        bounds = [_finite_bounds(item, f"mel[{i}]") for i, item in enumerate(array)]
        return MelBatch(list(array), "batch", [where] * len(array), _joined(bounds))
    if not mel:
        raise InputError(f"mel: expected at least one [{bands}, T], got an empty {type(mel).__name__}")
    if len({device_of(item) is None for item in mel}) == 2:
        raise InputError("mel: expected only numpy arrays or only torch tensors, got a list of both")
    read = [_read(item, f"mel[{i}]", device, bands, batch_too=False) for i, item in enumerate(mel)]
    bounds = [_finite_bounds(item, f"mel[{i}]") for i, (item, _) in enumerate(read)]
    return MelBatch([item for item, _ in read], "list", [where for _, where in read], _joined(bounds))


def _read(value: Any, name: str, device: str, bands: int, *, batch_too: bool) -> tuple[Any, torch.device | None]:
    """Return a mel of the right type and shape, and the device of the caller's tensor."""
    where = device_of(value)
    if where is None and isinstance(value, np.ndarray) and value.dtype == object:
        raise InputError(f"{name}: expected float32, got an array of objects; pass unequal lengths as a list of [M, T]")
    if where is not None and where.type == device != "cpu" and dtype_name(value) == "float32":
        array = value.detach()
    else:
        conversion = ".float()" if where is not None else ".astype('float32')"
        array = to_numpy(value, name, ("float32",), f"; convert with {name}{conversion}")
    shape, frames = tuple(array.shape), f"shape [{bands}, T]"
    expected = f"{frames} or [B, {bands}, T]" if batch_too else frames
    if array.ndim not in ((2, 3) if batch_too else (2,)):
        raise InputError(f"{name}: expected {expected}, got shape {shape}")
    if shape[-2] != bands and shape[-1] == bands:
        swap = "T" if array.ndim == 2 else "transpose(0, 2, 1)" if where is None else "mT"
        raise InputError(f"{name}: expected {expected}, got {shape}, which looks transposed; pass {name}.{swap}")
    if shape[-2] != bands:
        raise InputError(f"{name}: expected {expected} ({bands} mel bands), got shape {shape}")
    if 0 in shape:
        raise InputError(f"{name}: expected at least one frame, got the empty shape {shape}")
    return array, where


def bounds_of(item: Any) -> Bounds:
    """Return the smallest and the largest value of an array or tensor; NaN if it holds one.

    From a GPU both values come in one transfer.
    """
    if isinstance(item, np.ndarray):
        return float(item.min()), float(item.max())
    low, high = sys.modules["torch"].stack(sys.modules["torch"].aminmax(item)).tolist()
    return low, high


def _finite_bounds(item: Any, name: str) -> Bounds:
    bounds = bounds_of(item)
    if not all(map(math.isfinite, bounds)):
        values = on_device(item, None)
        band, frame = np.argwhere(~np.isfinite(values))[0]
        raise InputError(f"{name}: expected finite values, got {values[band, frame]} at band {band}, frame {frame}")
    return bounds


def _joined(bounds: Sequence[Bounds]) -> Bounds:
    return min(low for low, _ in bounds), max(high for _, high in bounds)


def check_mel_length(batch: MelBatch, signal: Any, hop: int, name: str = "x") -> None:
    """Raise InputError unless a signal [B, L] has the number and the lengths of its mels."""
    lengths = batch.lengths(hop)
    if lengths != [signal.shape[1]] * len(signal):
        raise InputError(
            f"{name}: expected [{len(lengths)}, {lengths[0]}] for this mel (frames * hop), got {signal.shape}"
        )


def check_range(bounds: Bounds, mel_kind: str | None, *, warn: bool = True) -> None:
    """Refuse mels that cannot be of the checkpoint's kind, and warn about those that hardly can.

    An lmnt mel lies in [0, 1]; the logarithmic kinds lie in about [-11.5, 2]. The wrong kind is the most frequent
    cause of silence or noise. With mel_kind None (unknown) nothing is compared.

    Args:
        bounds: of the mels, finite.
        mel_kind: `Config.mel_kind`.
        warn: whether to warn. A piece of a mel may be silent throughout and tells nothing.

    Raises:
        InputError: a value lies outside the kind's range.

    Warns:
        UserWarning: every value of a logarithmic mel lies in [0, 1], as in an lmnt mel.
    """
    if mel_kind is None:
        return
    got = f"{bounds[0]:.4g} to {bounds[1]:.4g}"
    remedy = f"make it with engine.mel(audio, sample_rate, kind={mel_kind!r})"
    if mel_kind == "lmnt":
        if not _within(bounds, LMNT_RANGE):
            looks = "fit no kind this engine knows"
            if _within(bounds, LOG_RANGE):
                looks = f"look like a log mel ({_quoted(LOG_KINDS)})"
            raise InputError(
                f"mel: this checkpoint wants 'lmnt' mels in [0, 1], got values from {got}, which {looks}; {remedy}"
            )
        return
    wants = f"mel: this checkpoint wants {mel_kind!r} mels (natural logarithm, about -11.5 to 2)"
    if not _within(bounds, LOG_RANGE):
        raise InputError(f"{wants}, got values from {got}, which fit no kind this engine knows; {remedy}")
    if warn and _within(bounds, LMNT_RANGE):
        message = f"{wants}, got values from {got}, which look like an 'lmnt' mel; {remedy}"
        warnings.warn(message, UserWarning, stacklevel=_level_of_the_caller())


def _within(bounds: Bounds, limits: Bounds) -> bool:
    return limits[0] <= bounds[0] and bounds[1] <= limits[1]


def _quoted(kinds: tuple[str, ...]) -> str:
    return ", ".join(map(repr, kinds[:-1])) + f" or {kinds[-1]!r}"


def _level_of_the_caller() -> int:
    """Return the stack level, seen from `check_range`, of the first caller outside the engine."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "engine":
        frame, level = frame.f_back, level + 1
    return level
