"""NumPy arrays and torch tensors at the edge of the engine: inside it there is only NumPy, and on a GPU its tensors."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.errors import InputError

FloatArray = npt.NDArray[np.float32]


def is_torch(value: object) -> bool:
    """Whether value is a torch tensor; never imports torch (without it there is no tensor to recognise)."""
    tensor = getattr(sys.modules.get("torch"), "Tensor", None)
    return tensor is not None and isinstance(value, tensor)


def dtype_name(value: Any) -> str:
    """The element type of an array or a tensor as one word: "float32", "bfloat16", "object", ..."""
    return str(value.dtype).removeprefix("torch.")


def to_numpy(value: Any, name: str, dtypes: tuple[str, ...], hint: str = "") -> npt.NDArray[Any]:
    """A numpy array or a torch tensor of one of dtypes as a numpy array of the same type.

    Shares memory with the caller's array or CPU tensor; a tensor is detached, and copied when elsewhere.
    Raises InputError, beginning with name and for a wrong element type ending with hint.
    """
    torch_tensor = is_torch(value)
    if not torch_tensor and not isinstance(value, np.ndarray):
        raise InputError(f"{name}: expected a numpy array or a torch tensor, got {type(value).__name__}")
    if dtype_name(value) not in dtypes:
        raise InputError(f"{name}: expected {' or '.join(dtypes)}, got {dtype_name(value)}{hint}")
    if not torch_tensor:
        return np.asarray(value)
    try:
        return np.asarray(value.detach().cpu().numpy())
    except (RuntimeError, TypeError) as error:
        raise InputError(f"{name}: expected a dense tensor, got one on {value.device} ({value.layout})") from error


def device_of(value: Any) -> Any | None:
    """Where a tensor lives (a torch.device); None for a numpy array."""
    return value.device if is_torch(value) else None


def on_device(array: Any, device: Any | None) -> Any:
    """As a numpy array (device None) or as a tensor on that torch.device; memory is shared where it can be."""
    if is_torch(array):
        return array.cpu().numpy() if device is None else array.to(device)
    return array if device is None else sys.modules["torch"].from_numpy(np.ascontiguousarray(array)).to(device)


def stacked(arrays: Sequence[Any]) -> Any:
    """Numpy arrays or tensors of one shape as one, along a new first axis.

    Where numpy's are the rows of one array already, that array: an hour of audio need not be copied.
    """
    if is_torch(arrays[0]):
        return sys.modules["torch"].stack(list(arrays))
    whole = arrays[0].base
    if isinstance(whole, np.ndarray) and whole.shape == (len(arrays), *arrays[0].shape):
        rows = [row.__array_interface__["data"] for row in whole]
        if [array.__array_interface__["data"] for array in arrays] == rows:
            return whole
    return np.stack(arrays)
