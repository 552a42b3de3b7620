"""NumPy arrays and torch tensors at the border of the engine.

Inside, a CPU computes on NumPy arrays and a GPU on tensors of its own. A caller may pass either and gets the same kind
back. torch is never imported here: where it was not imported, no value can be a tensor.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, Union

import numpy as np
import numpy.typing as npt

from engine.errors import InputError

if TYPE_CHECKING:
    import torch

FloatArray: TypeAlias = npt.NDArray[np.float32]
# What a caller may pass, and gets back in kind.
AnyArray: TypeAlias = Union[FloatArray, "torch.Tensor"]
ArrayT = TypeVar("ArrayT", FloatArray, "torch.Tensor")
MelT = TypeVar("MelT", FloatArray, "torch.Tensor", "list[FloatArray]", "list[torch.Tensor]")


def is_torch(value: object) -> bool:
    """Return whether a value is a torch tensor, without importing torch."""
    tensor = getattr(sys.modules.get("torch"), "Tensor", None)
    return tensor is not None and isinstance(value, tensor)


def dtype_name(value: Any) -> str:
    """Return the element type of an array or a tensor as one word: "float32", "bfloat16", "object"."""
    return _name_of(value.dtype)


@lru_cache(maxsize=64)  # NumPy composes a new string for every query, and Python keeps thousands of them
def _name_of(dtype: object) -> str:
    return str(dtype).removeprefix("torch.")


def to_numpy(value: Any, name: str, dtypes: tuple[str, ...], hint: str = "") -> npt.NDArray[Any]:
    """Return an array or a tensor as a NumPy array of the same element type.

    The result shares memory with an array or a CPU tensor. A tensor is detached, and copied from another device. An
    array whose elements are not aligned, such as a field of a packed record, is copied.

    Args:
        value: a NumPy array or a torch tensor.
        name: name of the argument, for the message.
        dtypes: the allowed element types, as `dtype_name` gives them.
        hint: ends the message about a wrong element type.

    Raises:
        InputError: the value is neither, has another element type, or is a masked array or not a dense tensor.
    """
    tensor = is_torch(value)
    if not tensor and not isinstance(value, np.ndarray):
        raise InputError(f"{name}: expected a numpy array or a torch tensor, got {type(value).__name__}")
    if dtype_name(value) not in dtypes:
        raise InputError(f"{name}: expected {' or '.join(dtypes)}, got {dtype_name(value)}{hint}")
    if isinstance(value, np.ma.MaskedArray):
        raise InputError(f"{name}: expected a plain array, got a masked one; pass {name}.filled(value)")
    if not tensor:
        return np.require(np.asarray(value), requirements=["ALIGNED"])
    try:
        return np.asarray(value.detach().cpu().numpy())
    except (RuntimeError, TypeError) as error:
        raise InputError(f"{name}: expected a dense tensor, got one on {value.device} ({value.layout})") from error


def device_of(value: object) -> torch.device | None:
    """Return the device of a tensor; None for a NumPy array."""
    return value.device if is_torch(value) else None  # type: ignore[attr-defined]


def on_device(array: Any, device: torch.device | None) -> Any:
    """Return a NumPy array (device None) or a tensor on that device; memory is shared where possible."""
    if is_torch(array):
        return array.cpu().numpy() if device is None else array.to(device)
    return array if device is None else sys.modules["torch"].from_numpy(np.ascontiguousarray(array)).to(device)


def stack(arrays: Sequence[Any]) -> Any:
    """Return arrays or tensors of one shape as one, along a new first axis.

    NumPy arrays that already are the rows of one array give that array: an hour of audio is not copied.
    """
    if is_torch(arrays[0]):
        return sys.modules["torch"].stack(list(arrays))
    whole = arrays[0].base
    if isinstance(whole, np.ndarray) and whole.shape == (len(arrays), *arrays[0].shape):
        rows = [row.__array_interface__["data"] for row in whole]
        if [array.__array_interface__["data"] for array in arrays] == rows:
            return whole
    return np.stack(arrays)


def in_form_of(original: ArrayT, rows: Sequence[Any]) -> ArrayT:
    """Stack rows in the shape of an original, NumPy or torch as it is, on its device.

    Args:
        original: an array or tensor of as many values as the rows.
        rows: arrays or tensors of one shape.
    """
    device = device_of(original)
    result: ArrayT = stack([on_device(row, device) for row in rows]).reshape(original.shape)
    return result
