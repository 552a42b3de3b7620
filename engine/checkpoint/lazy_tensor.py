"""A tensor in a file: its shape is known before its values are read."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.checks.arrays import FloatArray
from engine.errors import CheckpointError

Shape = tuple[int, ...]

# NumPy has no bfloat16: its 16 bits are the upper half of a float32.
BFLOAT16 = "bfloat16"


@dataclass(frozen=True, eq=False)
class Stored:
    """What a loader knows of a tensor.

    Attributes:
        shape: the sizes.
        read: gives the values: float32, C-contiguous, the caller's own.
    """

    shape: Shape
    read: Callable[[], FloatArray]


def read_values(
    path: Path, begin: int, dtype: str, count: int, crc: int | None = None, big_endian: bool = False
) -> npt.NDArray[Any]:
    """Values at one place of a file, as one axis; bfloat16 becomes float32.

    Args:
        path: the file.
        begin: the place, in bytes.
        dtype: as NumPy names it, or `BFLOAT16`.
        count: how many values.
        crc: of the bytes, if it is to be checked.
        big_endian: the order of the bytes of a value.

    Raises:
        CheckpointError: the file ends before, or has other bytes than the CRC says.
    """
    stored = np.dtype("u2" if dtype == BFLOAT16 else dtype).newbyteorder(">" if big_endian else "<")
    raw = np.fromfile(path, stored, count, offset=begin)
    if len(raw) != count:
        raise CheckpointError(f"expected {count} values of {dtype} at byte {begin}, got {len(raw)}")
    if crc is not None and zlib.crc32(raw.view(np.uint8).data) != crc:
        raise CheckpointError(f"expected bytes with the CRC {crc:08x} at byte {begin}, got others: the file is damaged")
    if dtype == BFLOAT16:
        return (raw.astype(np.uint32) << 16).view(np.float32)
    return raw


def as_float32(values: npt.NDArray[Any]) -> FloatArray:
    """Native float32 in C order, without a copy where they are that already."""
    with np.errstate(over="ignore"):  # becomes infinite, which `engine.checkpoint.load.Checkpoint` refuses
        return np.asarray(values, dtype=np.float32, order="C")


def one_line(error: Exception) -> str:
    """What another library's exception says: short, and without what a terminal would obey."""
    text = " ".join(str(error)[:1000].split())[:160] or type(error).__name__
    return "".join(letter if letter.isprintable() else "?" for letter in text)
