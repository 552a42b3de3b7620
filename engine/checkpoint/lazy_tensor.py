"""Lazy tensors: the shape is known before the values are read from the file."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.checkpoint.source import Source
from engine.checks.arrays import FloatArray
from engine.errors import CheckpointError

Shape = tuple[int, ...]

# NumPy has no bfloat16: its 16 bits are the upper half of a float32.
BFLOAT16 = "bfloat16"


@dataclass(frozen=True, eq=False)
class LazyTensor:
    """A tensor of a checkpoint file.

    Attributes:
        shape: the length of every axis.
        read: reads the values: float32, C-contiguous, in memory that belongs to the caller.
        problem: why it cannot be a weight, as the error that `read` would raise; "" if it can. A file may hold anything
            that its network does not use.
    """

    shape: Shape
    read: Callable[[], FloatArray]
    problem: str = ""


def unusable(shape: Shape, problem: str) -> LazyTensor:
    """Return a tensor that cannot be a weight: reading it raises CheckpointError.

    Args:
        shape: of the tensor.
        problem: the message.
    """

    def read() -> FloatArray:
        raise CheckpointError(problem)

    return LazyTensor(shape, read, problem)


def value_width(dtype: str) -> int:
    """Return the bytes of one value of an element type, in NumPy's notation or `BFLOAT16`."""
    return 2 if dtype == BFLOAT16 else np.dtype(dtype).itemsize


def read_values(
    source: Source, begin: int, dtype: str, count: int, crc: int | None = None, big_endian: bool = False
) -> npt.NDArray[Any]:
    """Read consecutive values of a checkpoint.

    Args:
        source: the checkpoint.
        begin: position of the first value in bytes.
        dtype: the element type in NumPy's notation, or `BFLOAT16`.
        count: the number of values.
        crc: the expected CRC-32 of the bytes; None skips the check.
        big_endian: the byte order of a value.

    Returns:
        [count], in the element type of the file; bfloat16 becomes float32.

    Raises:
        CheckpointError: the file is too short, or the CRC differs.
    """
    stored = np.dtype("u2" if dtype == BFLOAT16 else dtype).newbyteorder(">" if big_endian else "<")
    raw = source.values(begin, stored, count)
    if len(raw) != count:
        raise CheckpointError(f"expected {count} values of {dtype} at byte {begin}, got {len(raw)}")
    if crc is not None and zlib.crc32(raw.view(np.uint8).data) != crc:
        raise CheckpointError(f"expected bytes with the CRC {crc:08x} at byte {begin}, got others: the file is damaged")
    if dtype == BFLOAT16:
        return (raw.astype(np.uint32) << 16).view(np.float32)
    return raw


def as_float32(values: npt.NDArray[Any]) -> FloatArray:
    """Convert values to float32 in native byte order and C order; values that are all of that are not copied."""
    with np.errstate(over="ignore"):  # gives infinity, which `engine.checkpoint.load.Checkpoint` refuses
        return np.asarray(values, dtype=np.float32, order="C")


def one_line(error: Exception) -> str:
    """Return the message of another library's exception as one short, printable line."""
    text = " ".join(str(error)[:1000].split())[:160] or type(error).__name__
    return "".join(letter if letter.isprintable() else "?" for letter in text)
