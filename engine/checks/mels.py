"""Validation of the mels that a caller passes. One clear sentence each: argument, expected, got."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from engine.checks.arrays import device_of, dtype_name, is_torch, on_device, stacked, to_numpy
from engine.config import Config
from engine.errors import InputError

LOG_KINDS = ("tacotron", "hifigan", "speechbrain")
LMNT_RANGE = (-0.01, 1.01)
LOG_RANGE = (-12.0, 5.0)  # the floor is ln(1e-5) = -11.51


@dataclass(frozen=True, eq=False)
class MelBatch:
    """Mels as the engine takes them, and how to give the audio back.

    Attributes:
        items: per utterance float32 [M, T_i], usually views of the caller's memory, not always contiguous; numpy,
            or tensors where they were to stay.
        form: what the caller passed: one [M, T], a [B, M, T], or a list or tuple of [M, T_i].
        devices: per item the torch.device of the caller's tensor, None for numpy.
    """

    items: list[Any]
    form: Literal["single", "batch", "list"]
    devices: list[Any]

    def restore(self, audios: Sequence[Any]) -> Any:
        """The audio in the caller's form: [M, T] -> [L], [B, M, T] -> [B, L], a list -> a list of [L_i].

        Args:
            audios: one float32 [L_i] per item, L_i = T_i * hop, numpy or tensors.

        Returns:
            numpy for numpy, torch tensors for torch, each on the device its mel came from.
        """
        if self.form == "batch":
            return on_device(stacked(audios), self.devices[0])
        restored = [on_device(a, device) for a, device in zip(audios, self.devices, strict=True)]
        return restored[0] if self.form == "single" else restored


def check_mel(mel: Any, config: Config, device: str = "cpu") -> MelBatch:
    """Take a mel in any form: float32 [M, T], [B, M, T] or a list or tuple of [M, T_i], numpy or torch.

    Tensors are detached and, unless they are on a device of this type already, brought to the CPU as arrays; nothing
    else is copied or converted. Values are only checked to be finite: see `check_range`.

    Raises:
        InputError: the network takes no mel, or the type, element type, rank, band count or a value is wrong.
    """
    if config.n_mels == 0:
        raise InputError("mel: this network takes none; generate makes sound with it")
    if isinstance(mel, (list, tuple)):
        return _check_list(mel, config.n_mels, device)
    array = _to_float32(mel, "mel", device)
    expected = f"shape [{config.n_mels}, T] or [B, {config.n_mels}, T]"
    if array.ndim not in (2, 3):
        raise InputError(f"mel: expected {expected}, got shape {tuple(array.shape)}")
    _check_shape(array, "mel", expected, config.n_mels, is_torch(mel))
    if array.ndim == 2:
        _check_finite(array, "mel")
        return MelBatch([array], "single", [device_of(mel)])
    for i, item in enumerate(array):
        _check_finite(item, f"mel[{i}]")
    return MelBatch(list(array), "batch", [device_of(mel)] * len(array))


def _check_list(mels: Sequence[Any], n_mels: int, device: str) -> MelBatch:
    if not mels:
        raise InputError(f"mel: expected at least one [{n_mels}, T], got an empty {type(mels).__name__}")
    if any(map(is_torch, mels)) and not all(map(is_torch, mels)):
        raise InputError("mel: expected only numpy arrays or only torch tensors, got a list of both")
    items = []
    for i, item in enumerate(mels):
        array = _to_float32(item, f"mel[{i}]", device)
        expected = f"shape [{n_mels}, T]"
        if array.ndim != 2:
            raise InputError(f"mel[{i}]: expected {expected}, got shape {tuple(array.shape)}")
        _check_shape(array, f"mel[{i}]", expected, n_mels, is_torch(item))
        _check_finite(array, f"mel[{i}]")
        items.append(array)
    return MelBatch(items, "list", [device_of(item) for item in mels])


def _to_float32(value: Any, name: str, device: str) -> Any:
    if isinstance(value, np.ndarray) and value.dtype == object:
        raise InputError(f"{name}: expected float32, got an array of objects; pass unequal lengths as a list of [M, T]")
    hint = f"; convert with {name}.float()" if is_torch(value) else f"; convert with {name}.astype('float32')"
    if is_torch(value) and value.device.type == device != "cpu" and dtype_name(value) == "float32":
        return value.detach()
    return to_numpy(value, name, ("float32",), hint)


def _check_shape(array: Any, name: str, expected: str, n_mels: int, torch_tensor: bool) -> None:
    bands, frames = array.shape[-2:]
    shape = tuple(array.shape)
    if bands != n_mels and frames == n_mels:
        swap = "T" if array.ndim == 2 else "mT" if torch_tensor else "transpose(0, 2, 1)"
        raise InputError(f"{name}: expected {expected}, got {shape}, which looks transposed; pass {name}.{swap}")
    if bands != n_mels:
        raise InputError(f"{name}: expected {expected} ({n_mels} mel bands), got shape {shape}")
    if 0 in shape:
        raise InputError(f"{name}: expected at least one frame, got the empty shape {shape}")


def _check_finite(item: Any, name: str) -> None:
    # On a GPU two numbers come back, as for the range; the tensor itself only to say where it is wrong.
    if is_torch(item) and all(map(math.isfinite, _bounds(item))):
        return
    item = on_device(item, None)
    finite = np.isfinite(item)
    if not finite.all():
        band, frame = np.argwhere(~finite)[0]
        raise InputError(f"{name}: expected finite values, got {item[band, frame]} at band {band}, frame {frame}")


def _bounds(item: Any) -> tuple[float, float]:
    """The smallest and the largest value, NaN if there is one; from a GPU both at once."""
    if not is_torch(item):
        return float(item.min()), float(item.max())
    import torch

    low, high = torch.stack(torch.aminmax(item)).tolist()
    return low, high


def check_mel_length(batch: MelBatch, signal: Any, hop: int, name: str = "x") -> None:
    """Refuse a signal [B,L] that is not as long as its mels say, or not as many."""
    want = [item.shape[1] * hop for item in batch.items]
    if want != [signal.shape[1]] * len(signal):
        raise InputError(f"{name}: expected [{len(want)}, {want[0]}] for this mel (frames * hop), got {signal.shape}")


def check_range(items: Sequence[Any], mel_kind: str | None, stacklevel: int | None = 3) -> None:
    """Refuse mels that cannot be of the checkpoint's kind, and warn of those that hardly can.

    An lmnt mel lies in [0, 1]; the logarithmic kinds lie in about [-11.5, 2]. Mixing them up is the most
    frequent cause of silence or noise. With mel_kind None (unknown) there is nothing to compare with.

    Args:
        items: [M, T_i] each, finite.
        mel_kind: `Config.mel_kind`.
        stacklevel: of the warning; 3 points at the caller of the function that calls this one. None: no warning,
            of a piece of a mel, which may be all silence.

    Raises:
        InputError: a value lies outside the kind's range, or is not finite.

    Warns:
        UserWarning: every value of what should be a logarithmic mel lies in [0, 1], as in an lmnt mel.
    """
    # np.min, not min: Python's own loses a NaN, which compares false with everything.
    low, high = np.array([_bounds(item) for item in items]).T
    low, high = float(np.min(low)), float(np.max(high))
    if not np.isfinite(low) or not np.isfinite(high):
        raise InputError(f"mel: expected finite values, got {low} to {high}")
    if mel_kind is None:
        return
    got = f"{low:.4g} to {high:.4g}"
    if mel_kind == "lmnt":
        if not _within(low, high, LMNT_RANGE):
            looks = "fit no kind this engine knows"
            if _within(low, high, LOG_RANGE):
                looks = f"look like a log mel ({_quoted(LOG_KINDS)})"
            raise InputError(
                f"mel: this checkpoint wants 'lmnt' mels in [0, 1], got values from {got}, which {looks}; "
                f"{_remedy(mel_kind)}"
            )
        return
    wants = f"mel: this checkpoint wants {mel_kind!r} mels (natural logarithm, about -11.5 to 2)"
    if not _within(low, high, LOG_RANGE):
        raise InputError(f"{wants}, got values from {got}, which fit no kind this engine knows; {_remedy(mel_kind)}")
    if stacklevel is not None and _within(low, high, LMNT_RANGE):
        warnings.warn(
            f"{wants}, got values from {got}, which look like an 'lmnt' mel; {_remedy(mel_kind)}",
            UserWarning,
            stacklevel=stacklevel,
        )


def _within(low: float, high: float, limits: tuple[float, float]) -> bool:
    return limits[0] <= low and high <= limits[1]


def _quoted(kinds: tuple[str, ...]) -> str:
    return ", ".join(map(repr, kinds[:-1])) + f" or {kinds[-1]!r}"


def _remedy(kind: str) -> str:
    return f"make it with engine.mel(audio, sample_rate, kind={kind!r})"
