"""Headers of .npy files, compared with the bytes that are there before anything of the claimed size is allocated."""

from __future__ import annotations

import math
from typing import IO, Any, NamedTuple

import numpy as np

from engine.checks.file_kinds import START, mistaken_kind
from engine.errors import InputError

NPY_MAGIC = b"\x93NUMPY"  # the first bytes of an .npy file
MAX_AXES = 4
_READERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


class Header(NamedTuple):
    """The header of an .npy file.

    Attributes:
        shape: of the array.
        is_fortran: whether its first axis changes fastest.
        dtype: of its elements, which may be objects.
        size: bytes of data that belong to it.
    """

    shape: tuple[int, ...]
    is_fortran: bool
    dtype: np.dtype[Any]
    size: int


def read_header(file: IO[bytes]) -> Header:
    """Read the header of an .npy file; the file stands at the data then.

    Args:
        file: at its beginning.

    Raises:
        InputError: it is no .npy file, or its header is damaged or cut off.
    """
    start = file.read(START)
    if start[: len(NPY_MAGIC)] != NPY_MAGIC:
        got = mistaken_kind(start) or (f"one that starts with {start[:8]!r}" if start else "no bytes")
        raise InputError(f"expected an .npy file, got {got}")
    version = tuple(start[6:8])
    if len(version) == 2 and version not in _READERS:
        raise InputError(f"expected an .npy file of version 1.0 or 2.0, got version {version[0]}.{version[1]}")
    file.seek(0)
    try:
        shape, is_fortran, dtype = _READERS[np.lib.format.read_magic(file)](file)
    except Exception:  # the reader of headers raises many kinds, with the words of a parser of Python
        raise InputError("expected an .npy file, got one whose header is damaged or cut off") from None
    if len(shape) > MAX_AXES or not all(type(size) is int and size >= 0 for size in shape):
        raise InputError(f"expected shape [M, T] or [1, M, T], got {shape!s:.80}")
    return Header(shape, is_fortran, dtype, math.prod(shape) * dtype.itemsize)


def check_size(header: Header, got: int, *, exact: bool) -> None:
    """Check that the data of a header are there.

    Args:
        header: of the file.
        got: bytes behind it.
        exact: whether more bytes are an error, too.

    Raises:
        InputError: they are not.
    """
    if got < header.size or (exact and got > header.size):
        what = "the file is cut off" if got < header.size else "something follows the array"
        raise InputError(f"expected {header.size} bytes of data for shape {header.shape!s:.80}, got {got}; {what}")
