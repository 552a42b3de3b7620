"""Validation of mels. Every message names the argument, what was expected and what was passed."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from engine.checks.arrays import device_of, dtype_name, on_device, stack, to_numpy
from engine.checks.callers import warn_caller
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
        source: the caller's memory, float32: one [M, T], a [B, M, T], or a list of [M, T_i]. NumPy arrays, or tensors
            where they stay on their device.
        form: the caller's form: one [M, T], a [B, M, T], or a list or tuple of [M, T_i].
        devices: per item the device of the caller's tensor, None for NumPy.
        frames: per item, T_i.
        padded: frames per item of a padded batch, T; None where no lengths were passed.
        known_bounds: the bounds, where something else has read them.
    """

    source: Any
    form: Literal["single", "batch", "list"]
    devices: list[torch.device | None]
    frames: list[int]
    padded: int | None = None
    known_bounds: Bounds | None = None

    @property
    def stays(self) -> bool:
        """Whether a mel is a tensor that stays on its device."""
        parts = self.source if isinstance(self.source, list) else [self.source]
        return not all(isinstance(part, np.ndarray) for part in parts)

    @cached_property
    def items(self) -> list[Any]:
        """float32 [M, T_i] per utterance: views of the caller's memory, not always contiguous."""
        return [self.source] if self.form == "single" else list(self.source)

    @cached_property
    def bounds(self) -> Bounds:
        """Smallest and largest value over all items.

        Raises:
            InputError: a value is not finite.
        """
        if self.known_bounds is not None:
            bounds = self.known_bounds
        else:
            bounds = bounds_of(self.source) if not isinstance(self.source, list) else _joined(self.items)
        if not all(map(math.isfinite, bounds)):
            self._refuse()
        return bounds

    def _refuse(self) -> None:
        """Raise InputError for the first value that is not finite."""
        for i, item in enumerate(self.items):
            values = on_device(item, None)
            if not np.isfinite(values).all():
                band, frame = np.argwhere(~np.isfinite(values))[0]
                name, got = "mel" if self.form == "single" else f"mel[{i}]", values[band, frame]
                raise InputError(f"{name}: expected finite values, got {got} at band {band}, frame {frame}")

    def lengths(self, hop: int) -> list[int]:
        """Return the samples of every item: frames times hop."""
        return [frames * hop for frames in self.frames]

    def restore(self, audios: Sequence[Any]) -> Any:
        """Return the audio in the caller's form: [M, T] -> [L], [B, M, T] -> [B, L], a list -> a list of [L_i].

        Args:
            audios: one float32 [L_i] per item, L_i = T_i * hop, arrays or tensors.

        Returns:
            NumPy arrays for NumPy arrays, tensors for tensors, each on the device of its mel. Zeros follow the audio of
            an item that is shorter than its padded batch.
        """
        if self.padded is not None:
            hop = len(audios[0]) // self.frames[0]
            audios = [_padded(audio, self.padded * hop) for audio in audios]
        if self.form == "batch":
            return on_device(stack(audios), self.devices[0])
        restored = [on_device(audio, device) for audio, device in zip(audios, self.devices, strict=True)]
        return restored[0] if self.form == "single" else restored


def check_mel(mel: Any, config: Config, device: torch.device | None = None, lengths: Any = None) -> MelBatch:
    """Check the type, shape and finiteness of a mel in any form.

    Tensors are detached. Tensors on another kind of device than `device` come to the CPU as arrays; nothing else is
    copied or converted. The values of tensors that stay on their device are checked when `MelBatch.bounds` is read,
    because that waits for the device. `fit_to_kind` compares the values with the checkpoint's kind of mel.

    Args:
        mel: float32 [M, T], [B, M, T] or a list or tuple of [M, T_i], NumPy or torch.
        config: configuration of the network.
        device: the kind of device on which tensors may stay; None for none.
        lengths: frames of every item of a padded batch [B, M, T]; the frames behind them are not read.

    Raises:
        InputError: the network takes no mel, or the type, element type, rank, band count, a length or a value is wrong.
    """
    batch = _shaped(mel, config.n_mels, device, lengths)
    if not batch.stays:
        _ = batch.bounds
    return batch


def _shaped(mel: Any, bands: int, device: torch.device | None, lengths: Any) -> MelBatch:
    if bands == 0:
        raise InputError("mel: this network takes none; generate makes sound with it")
    if not isinstance(mel, (list, tuple)):
        array, where = _read(mel, "mel", device, bands, batch_too=True)
        if lengths is not None:
            return _padded_batch(array, where, lengths)
        count = 1 if array.ndim == 2 else array.shape[0]
        form: Literal["single", "batch"] = "single" if array.ndim == 2 else "batch"
        return MelBatch(array, form, [where] * count, [array.shape[-1]] * count)
    if lengths is not None:
        raise InputError("lengths: expected None beside a list of mels, whose items have lengths of their own")
    if not mel:
        raise InputError(f"mel: expected at least one [{bands}, T], got an empty {type(mel).__name__}")
    if len({device_of(item) is None for item in mel}) == 2:
        raise InputError("mel: expected only numpy arrays or only torch tensors, got a list of both")
    read = [_read(item, f"mel[{i}]", device, bands, batch_too=False) for i, item in enumerate(mel)]
    items = [item for item, _ in read]
    return MelBatch(items, "list", [where for _, where in read], [item.shape[1] for item in items])


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
    return MelBatch(items, "batch", [where] * count, [int(value) for value in values], frames)


def _padded(audio: Any, length: int) -> Any:
    """Return audio [L_i] followed by zeros, [L]."""
    if isinstance(audio, np.ndarray):
        return np.pad(audio, (0, length - len(audio)))
    return sys.modules["torch"].nn.functional.pad(audio, (0, length - len(audio)))


def _read(
    value: Any, name: str, device: torch.device | None, bands: int, *, batch_too: bool
) -> tuple[Any, torch.device | None]:
    """Return a mel of the right type and shape, and the device of the caller's tensor."""
    where = device_of(value)
    if where is None and isinstance(value, np.ndarray) and value.dtype == object:
        raise InputError(f"{name}: expected float32, got an array of objects; pass unequal lengths as a list of [M, T]")
    if where is not None and device is not None and where.type == device.type and _is_dense_float32(value):
        array = value.detach() if value.requires_grad else value
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


def _is_dense_float32(value: Any) -> bool:
    return dtype_name(value) == "float32" and str(value.layout) == "torch.strided"


def _joined(items: Sequence[Any]) -> Bounds:
    """Return the bounds over all items; those of a GPU's tensors come in one transfer."""
    bounds = [bounds_of(item) for item in items if isinstance(item, np.ndarray)]
    tensors: dict[Any, list[Any]] = {}
    for item in items:
        if not isinstance(item, np.ndarray):
            tensors.setdefault(item.device, []).append(item)
    for on_one_device in tensors.values():
        torch = sys.modules["torch"]
        bounds += map(tuple, torch.stack([torch.stack(torch.aminmax(item)) for item in on_one_device]).tolist())
    values = np.array(bounds)  # whose minimum and maximum keep NaN, unlike Python's
    return float(values[:, 0].min()), float(values[:, 1].max())


def check_mels_of(
    signal: Any, mel: Any, config: Config, device: torch.device | None = None, name: str = "x"
) -> Sequence[Any]:
    """Return one checked mel per row of a signal, or None per row for a network without mels.

    Args:
        signal: [B, L].
        mel: [B, M, T] or [M, T] with T * hop = L; None for a network without mels.
        config: configuration of the network.
        device: see `check_mel`.
        name: name of the signal, for the message.

    Raises:
        InputError: see `check_mel` and `fit_to_kind`; or the mels have another number or length than the signal.
    """
    if not config.n_mels:
        if mel is not None:
            raise InputError("mel: this network takes none; generate makes sound with it")
        return [None] * len(signal)
    if mel is None:
        raise InputError(f"mel: this network wants one, [B, {config.n_mels}, T], got None")
    batch = fit_to_kind(check_mel(mel, config, device), config.mel_kind)
    lengths = batch.lengths(config.hop)
    if lengths != [signal.shape[1]] * len(signal):
        raise InputError(
            f"{name}: expected [{len(lengths)}, {lengths[0]}] for this mel (frames * hop), got {signal.shape}"
        )
    return batch.items


def fit_to_kind(
    batch: MelBatch, mel_kind: str | None, *, piece: bool = False, continues: bool = False, quiet: bool = False
) -> MelBatch:
    """Refuse mels that cannot be of the checkpoint's kind, and clip values slightly outside the kind's range.

    Each value is clipped on its own: the pieces of a mel give what the whole gives.

    Args:
        batch: checked mels.
        mel_kind: `Config.mel_kind`.
        piece: see `check_kind`.
        continues: see `check_kind`.
        quiet: see `check_kind`.

    Returns:
        The batch, with clipped copies of the items where a value lies outside.

    Raises:
        InputError: a value lies far outside the kind's range, or is not finite.

    Warns:
        UserWarning: see `check_kind`.
    """
    check_kind(batch, mel_kind, piece=piece, continues=continues, quiet=quiet)
    limits = kind_limits(mel_kind)
    if limits is None or _within(batch.bounds, limits, 0.0):
        return batch
    if isinstance(batch.source, list):
        clipped = [item.clip(*limits) for item in batch.items]
    else:
        clipped = batch.source.clip(*limits)
    return replace(batch, source=clipped, known_bounds=limits)


def check_kind(
    batch: MelBatch, mel_kind: str | None, *, piece: bool = False, continues: bool = False, quiet: bool = False
) -> None:
    """Refuse mels that cannot be of the checkpoint's kind, and warn of values outside the kind's range.

    An lmnt mel lies in [0, 1]; the logarithmic kinds lie in about [-11.5, 2]. The wrong kind is the most frequent
    cause of silence or noise. Acoustic models predict values slightly outside. With mel_kind None (unknown) nothing is
    compared.

    Args:
        batch: checked mels.
        mel_kind: `Config.mel_kind`.
        piece: whether the mels are pieces of one mel. A piece may be silent throughout: values in [0, 1] do not show
            its kind.
        continues: whether the piece continues a stream. No value of it is refused.
        quiet: whether to omit the warning of clipped values, which a stream issues once.

    Raises:
        InputError: a value lies far outside the kind's range, or is not finite.

    Warns:
        UserWarning: values will be clipped, or every value of a logarithmic mel lies in [0, 1], as in an lmnt mel.
    """
    bounds, limits = batch.bounds, kind_limits(mel_kind)
    if limits is None:
        return
    margin = LMNT_MARGIN if mel_kind == "lmnt" else LOG_MARGIN
    got = f"{bounds[0]:.4g} to {bounds[1]:.4g}"
    remedy = f"make it with engine.mel(audio, sample_rate, kind={mel_kind!r})"
    wants = f"mel: this checkpoint wants {mel_kind!r} mels "
    wants += "in [0, 1]" if mel_kind == "lmnt" else "(natural logarithm, about -11.5 to 2)"
    if not continues and not _within(bounds, limits, margin):
        log = mel_kind == "lmnt" and _within(bounds, LOG_RANGE, 0.0)
        looks = f"look like a log mel ({_quoted(LOG_KINDS)})" if log else "fit no kind this engine knows"
        raise InputError(f"{wants}, got values from {got}, which {looks}; {remedy}{CONVERT if log else ''}")
    if mel_kind != "lmnt" and not piece and _within(bounds, LMNT_RANGE, ROUNDING):
        warn_caller(f"{wants}, got values from {got}, which look like an 'lmnt' mel; {remedy}{CONVERT}")
    if not quiet and is_outside(bounds, mel_kind):
        outside = sum(int(((item < limits[0]) | (item > limits[1])).sum()) for item in batch.items)
        total = sum(math.prod(item.shape) for item in batch.items)
        clipped = f"{outside} of {total} were clipped to {limits[0]:g} to {limits[1]:g}"
        warn_caller(f"{wants}, got values from {got}; {clipped}")


def kind_limits(mel_kind: str | None) -> Bounds | None:
    """Return the range of a kind of mel; None for an unknown kind."""
    if mel_kind is None:
        return None
    return LMNT_RANGE if mel_kind == "lmnt" else LOG_RANGE


def warn_unknown_kind(mel_kind: str | None) -> None:
    """Warn if a checkpoint's kind of mel is unknown, so that a mel of another kind gives noise without an error.

    Args:
        mel_kind: `Config.mel_kind`, or "" for a network without a mel.

    Warns:
        UserWarning: the kind is None.
    """
    if mel_kind is None:
        message = "mel: this checkpoint does not say which kind it wants, so the values cannot be checked"
        warn_caller(f"{message}; pass mel_kind=, one of 'lmnt', {_quoted(LOG_KINDS)}")


def is_outside(bounds: Bounds, mel_kind: str | None) -> bool:
    """Return whether values lie outside the kind's range by more than rounding."""
    limits = kind_limits(mel_kind)
    return limits is not None and not _within(bounds, limits, ROUNDING)


def _within(bounds: Bounds, limits: Bounds, margin: float) -> bool:
    return limits[0] - margin <= bounds[0] and bounds[1] <= limits[1] + margin


def _quoted(kinds: tuple[str, ...]) -> str:
    return ", ".join(map(repr, kinds[:-1])) + f" or {kinds[-1]!r}"
