"""Arrays of NumPy and tensors of PyTorch in one text: the functions that the two name differently.

Phase retrieval and the match compute on a CPU's arrays, or in float64 on a GPU's tensors.
"""

from __future__ import annotations

import sys
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.audio.spectrogram import WINDOW
from engine.checks.arrays import device_of, is_torch, on_device

if TYPE_CHECKING:
    import torch


def library(array: Any) -> Any:
    """Return the module numpy, or torch for a tensor: where both have a function of one name and meaning."""
    return sys.modules["torch"] if is_torch(array) else np


def empty(shape: tuple[int, ...], like: Any) -> Any:
    """Return uninitialised float64, an array or a tensor as `like`, on its device."""
    if not is_torch(like):
        return np.empty(shape)
    torch = sys.modules["torch"]
    return torch.empty(shape, dtype=torch.float64, device=like.device)


def zeros(shape: tuple[int, ...], like: Any) -> Any:
    """Return zeros in float64, an array or a tensor as `like`, on its device."""
    result = empty(shape, like)
    result[...] = 0.0
    return result


def double(array: Any) -> Any:
    """Return the values as float64."""
    return array.double() if is_torch(array) else array.astype(np.float64)


def single(array: Any) -> Any:
    """Return the values as float32."""
    return array.float() if is_torch(array) else array.astype(np.float32)


def packed(array: Any) -> Any:
    """Return the values in the order of their indices in memory."""
    return array.contiguous() if is_torch(array) else np.ascontiguousarray(array)


def window(like: Any) -> Any:
    """Return the window of a frame, an array or a tensor as `like`, on its device."""
    return _window_on(device_of(like)) if is_torch(like) else WINDOW


@lru_cache(maxsize=16)
def _window_on(device: torch.device) -> Any:
    return on_device(WINDOW, device)
