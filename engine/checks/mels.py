"""Validation of mels. Every message names the argument, what was expected and what was passed."""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from engine.checks.arrays import device_of, dtype_name, on_device, stack, to_numpy
from engine.config import Config
from engine.errors import InputError

if TYPE_CHECKING:
    import torch

LOG_KINDS = ("tacotron", "hifigan", "speechbrain")
LMNT_RANGE = (0.0, 1.0)
LOG_RANGE = (-12.0, 5.0)  # the floor is ln(1e-5) = -11.51
ROUNDING = 0.01  # values this far outside their range are clipped without a warning
# Values this far outside are clipped with a warning: acoustic models predict them. Further outside, it is another kind.
LMNT_MARGIN = 0.25
LOG_MARGIN = 3.0
CONVERT = ", or convert it with engine.audio.convert_mel (in Python)"  # the end of a message

Bounds = tuple[float, float]  # the smallest and the largest value


@dataclass(frozen=True, eq=False)
class MelBatch:
    """Checked mels, and the form in which the caller expects the audio.

    Attributes:
        items: float32 [M, T_i] per utterance: views of the caller's memory, not always contiguous. NumPy arrays, or
            tensors where they stay on their device.
        form: the caller's form: one [M, T], a [B, M, T], or a list or tuple of [M, T_i].
        devices: per item the device of the caller's tensor, None for NumPy.
        bounds: smallest and largest value over all items.
        padded: frames per item of a padded batch, T; None where no lengths were passed.
    """

    items: list[Any]
    form: Literal["single", "batch", "list"]
    devices: list[torch.device | None]
    bounds: Bounds
    padded: int | None = None

    def lengths(self, hop: int) -> list[int]:
        """Return the samples of every item: frames times hop."""
        return [item.shape[1] * hop for item in self.items]

    def restore(self, audios: Sequence[Any]) -> Any:
        """Return the audio in the caller's form: [M, T] -> [L], [B, M, T] -> [B, L], a list -> a list of [L_i].

        Args:
            audios: one float32 [L_i] per item, L_i = T_i * hop, arrays or tensors.

        Returns:
            NumPy arrays for NumPy arrays, tensors for tensors, each on the device of its mel. Zeros follow the audio of
            an item that is shorter than its padded batch.
        """
        if self.padded is not None:
            hop = len(audios[0]) // self.items[0].shape[1]
            audios = [_padded(audio, self.padded * hop) for audio in audios]
        if self.form == "batch":
            return on_device(stack(audios), self.devices[0])
        restored = [on_device(audio, device) for audio, device in zip(audios, self.devices, strict=True)]
        return restored[0] if self.form == "single" else restored


def check_mel(mel: Any, config: Config, device: str = "cpu", lengths: Any = None) -> MelBatch:
    """Check the type, shape and finiteness of a mel in any form.

    Tensors are detached. Tensors on another device than `device` come to the CPU as arrays; nothing else is copied or
    converted. `fit_to_kind` compares the values with the checkpoint's kind of mel.

    Args:
        mel: float32 [M, T], [B, M, T] or a list or tuple of [M, T_i], NumPy or torch.
        config: configuration of the network.
        device: the type of device on which tensors may stay.
        lengths: frames of every item of a padded batch [B, M, T]; the frames behind them are not read.

    Raises:
        InputError: the network takes no mel, or the type, element type, rank, band count, a length or a value is wrong.
    """
    bands = config.n_mels
    if bands == 0:
        raise InputError("mel: this network takes none; generate makes sound with it")
    if not isinstance(mel, (list, tuple)):
        array, where = _read(mel, "mel", device, bands, batch_too=True)
        if lengths is not None:
            return _padded_batch(array, where, lengths)
        if array.ndim == 2:
            return MelBatch([array], "single", [where], _finite_bounds(array, "mel"))
        bounds = [_finite_bounds(item, f"mel[{i}]") for i, item in enumerate(array)]
        return MelBatch(list(array), "batch", [where] * len(array), _joined(bounds))
    if lengths is not None:
        raise InputError("lengths: expected None beside a list of mels, whose items have lengths of their own")
    if not mel:
        raise InputError(f"mel: expected at least one [{bands}, T], got an empty {type(mel).__name__}")
    if len({device_of(item) is None for item in mel}) == 2:
        raise InputError("mel: expected only numpy arrays or only torch tensors, got a list of both")
    read = [_read(item, f"mel[{i}]", device, bands, batch_too=False) for i, item in enumerate(mel)]
    bounds = [_finite_bounds(item, f"mel[{i}]") for i, (item, _) in enumerate(read)]
    return MelBatch([item for item, _ in read], "list", [where for _, where in read], _joined(bounds))


def _padded_batch(array: Any, where: torch.device | None, lengths: Any) -> MelBatch:
    """Return a batch of the first `lengths` frames of a padded [B, M, T]."""
    if array.ndim != 3:
        raise InputError(f"lengths: expected a padded batch [B, M, T] beside it, got shape {tuple(array.shape)}")
    count, frames = array.shape[0], array.shape[2]
    values = lengths.tolist() if hasattr(lengths, "tolist") else lengths
    if not isinstance(values, (list, tuple)) or len(values) != count:
        raise InputError(f"lengths: expected {count} integers, one per item of the batch, got {lengths!r:.80}")
    for i, value in enumerate(values):
        if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or not 1 <= value <= frames:
            raise InputError(f"lengths[{i}]: expected an integer from 1 to {frames} frames, got {value!r:.80}")
    items = [item[:, : int(value)] for item, value in zip(array, values, strict=True)]
    bounds = [_finite_bounds(item, f"mel[{i}]") for i, item in enumerate(items)]
    return MelBatch(items, "batch", [where] * count, _joined(bounds), frames)


def _padded(audio: Any, length: int) -> Any:
    """Return audio [L_i] followed by zeros, [L]."""
    if isinstance(audio, np.ndarray):
        return np.pad(audio, (0, length - len(audio)))
    return sys.modules["torch"].nn.functional.pad(audio, (0, length - len(audio)))


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


def fit_to_kind(
    batch: MelBatch, mel_kind: str | None, *, piece: bool = False, continues: bool = False, quiet: bool = False
) -> MelBatch:
    """Refuse mels that cannot be of the checkpoint's kind, and clip values slightly outside the kind's range.

    An lmnt mel lies in [0, 1]; the logarithmic kinds lie in about [-11.5, 2]. The wrong kind is the most frequent
    cause of silence or noise. Acoustic models predict values slightly outside. Each value is clipped on its own: the
    pieces of a mel give what the whole gives. With mel_kind None (unknown) nothing is compared.

    Args:
        batch: checked mels.
        mel_kind: `Config.mel_kind`.
        piece: whether the mels are pieces of one mel. A piece may be silent throughout: values in [0, 1] do not show
            its kind.
        continues: whether the piece continues a stream. No value of it is refused, and all are clipped.
        quiet: whether to omit the warning of clipped values, which a stream issues once.

    Returns:
        The batch, with clipped copies of the items where a value lies outside.

    Raises:
        InputError: a value lies far outside the kind's range.

    Warns:
        UserWarning: values were clipped, or every value of a logarithmic mel lies in [0, 1], as in an lmnt mel.
    """
    if mel_kind is None:
        return batch
    limits, margin = _limits_of(mel_kind), LMNT_MARGIN if mel_kind == "lmnt" else LOG_MARGIN
    got = f"{batch.bounds[0]:.4g} to {batch.bounds[1]:.4g}"
    remedy = f"make it with engine.mel(audio, sample_rate, kind={mel_kind!r})"
    wants = f"mel: this checkpoint wants {mel_kind!r} mels "
    wants += "in [0, 1]" if mel_kind == "lmnt" else "(natural logarithm, about -11.5 to 2)"
    if not continues and not _within(batch.bounds, limits, margin):
        log = mel_kind == "lmnt" and _within(batch.bounds, LOG_RANGE, 0.0)
        looks = f"look like a log mel ({_quoted(LOG_KINDS)})" if log else "fit no kind this engine knows"
        raise InputError(f"{wants}, got values from {got}, which {looks}; {remedy}{CONVERT if log else ''}")
    if mel_kind != "lmnt" and not piece and _within(batch.bounds, LMNT_RANGE, ROUNDING):
        _warn(f"{wants}, got values from {got}, which look like an 'lmnt' mel; {remedy}{CONVERT}")
    if _within(batch.bounds, limits, 0.0):
        return batch
    if not quiet and is_outside(batch.bounds, mel_kind):
        outside = sum(int(((item < limits[0]) | (item > limits[1])).sum()) for item in batch.items)
        total = sum(math.prod(item.shape) for item in batch.items)
        _warn(f"{wants}, got values from {got}; {outside} of {total} were clipped to {limits[0]:g} to {limits[1]:g}")
    return replace(batch, items=[item.clip(*limits) for item in batch.items], bounds=limits)


def warn_unknown_kind(mel_kind: str | None) -> None:
    """Warn if a checkpoint's kind of mel is unknown, so that a mel of another kind gives noise without an error.

    Args:
        mel_kind: `Config.mel_kind`, or "" for a network without a mel.

    Warns:
        UserWarning: the kind is None.
    """
    if mel_kind is None:
        message = "mel: this checkpoint does not say which kind it wants, so the values cannot be checked"
        _warn(f"{message}; pass mel_kind=, one of 'lmnt', {_quoted(LOG_KINDS)}")


def is_outside(bounds: Bounds, mel_kind: str | None) -> bool:
    """Return whether values lie outside the kind's range by more than rounding."""
    return mel_kind is not None and not _within(bounds, _limits_of(mel_kind), ROUNDING)


def _limits_of(mel_kind: str) -> Bounds:
    return LMNT_RANGE if mel_kind == "lmnt" else LOG_RANGE


def _within(bounds: Bounds, limits: Bounds, margin: float) -> bool:
    return limits[0] - margin <= bounds[0] and bounds[1] <= limits[1] + margin


def _warn(message: str) -> None:
    warnings.warn(message, UserWarning, stacklevel=_level_of_the_caller())


def _quoted(kinds: tuple[str, ...]) -> str:
    return ", ".join(map(repr, kinds[:-1])) + f" or {kinds[-1]!r}"


def _level_of_the_caller() -> int:
    """Return the stack level, seen from `_warn`, of the first caller outside the engine."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "engine":
        frame, level = frame.f_back, level + 1
    return level
