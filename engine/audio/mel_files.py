"""Mel files: NumPy arrays, safetensors and raw frames from a pipe."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from safetensors import safe_open

from engine.checks.arrays import FloatArray
from engine.errors import InputError
from engine.output_files import replacing

NPY_MAGIC = b"\x93NUMPY"  # the first bytes of an .npy file
PIECE = 1024  # frames


def is_wav(path: Path) -> bool:
    """Return whether a file is a WAV file by its content or its suffix.

    Args:
        path: an existing file.

    Raises:
        InputError: the file cannot be read.
    """
    return _start(path)[:4] == b"RIFF" or path.suffix.lower() == ".wav"


def read_mel(path: Path) -> FloatArray:
    """Read a mel [M, T] from an .npy, .npz or .safetensors file.

    The content decides the format, not the suffix. Of several arrays the one called "mel" is taken. A leading axis of 1
    is dropped. float16 and float64 become float32. `Voice.vocode` checks bands and values. No pickle is ever loaded.

    Args:
        path: the file.

    Raises:
        InputError: the file is unreadable or damaged, has another format, or is not one array of floats with two axes.
    """
    start = _start(path)
    if start[:6] == NPY_MAGIC:
        array = _load(path, "an .npy array", _from_npy)
    elif start[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        array = _load(path, "an .npz archive", _from_npz)
    elif start[8:] == b"{":
        array = _load(path, "a safetensors file", _from_safetensors)
    else:
        raise InputError(
            f"{path}: expected a mel (.npy, .npz or .safetensors) or a WAV file, got a file that starts with "
            f"{start!r}; convert other audio first, for example with 'ffmpeg -i IN -ac 1 OUT.wav'"
        )
    return _as_float32(_as_mel(path, array))


def read_mel_in_pieces(path: Path) -> tuple[int, Iterator[FloatArray]]:
    """Read a mel in pieces of at most `PIECE` frames.

    An .npy file is mapped into memory again for every piece, because the pages of a map stay in memory once they were
    read.

    Args:
        path: a file that `read_mel` reads.

    Returns:
        The number of frames T, and an iterator of pieces [M, n].

    Raises:
        InputError: as `read_mel`.
    """
    if _start(path)[:6] == NPY_MAGIC:

        def whole() -> npt.NDArray[Any]:
            return _as_mel(path, _load(path, "an .npy array", _from_mapped_npy))
    else:
        mel = read_mel(path)

        def whole() -> npt.NDArray[Any]:
            return mel

    frames = whole().shape[1]
    return frames, (_as_float32(whole()[:, begin : begin + PIECE]) for begin in range(0, frames, PIECE))


def read_raw_mel(file: BinaryIO, bands: int) -> Iterator[FloatArray]:
    """Yield mel frames [M, n] from a pipe as they arrive.

    Args:
        file: little-endian float32 values; the bands of a frame stand together.
        bands: M.

    Raises:
        InputError: the input ends within a frame.
    """
    size, rest = 4 * bands, b""
    while block := file.read1(64 * size):  # type: ignore[attr-defined]
        rest += block
        whole = len(rest) // size * size
        if whole:
            yield np.frombuffer(rest[:whole], "<f4").reshape(-1, bands).T.astype(np.float32)
            rest = rest[whole:]
    if rest:
        raise InputError(f"stdin: expected whole frames of {bands} float32 values, got {len(rest)} bytes more")


def write_mel(path: Path, mel: FloatArray) -> None:
    """Write an .npy file, which appears under its name only when it is complete.

    Args:
        path: the file.
        mel: float32 [M, T].

    Raises:
        OSError: the file cannot be written.
    """
    with replacing(path) as file:
        np.save(file, mel, allow_pickle=False)


def _as_mel(path: Path, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if array.dtype.kind != "f":
        raise InputError(f"{path}: expected float16, float32 or float64, got {array.dtype!s:.80}")
    if array.ndim == 3 and len(array) == 1:
        array = array[0]
    if array.ndim != 2:
        raise InputError(f"{path}: expected one mel of shape [M, T] or [1, M, T], got shape {array.shape!s:.80}")
    return array


def _as_float32(array: npt.NDArray[Any]) -> FloatArray:
    with np.errstate(over="ignore"):  # becomes infinite, which vocode refuses
        return array.astype(np.float32, copy=False)


def _start(path: Path) -> bytes:
    """Return the first 9 bytes of a regular, non-empty file."""
    try:
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            raise InputError(f"{path}: expected a file, got a directory")
        if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait, and it could not be read twice
            raise InputError(f"{path}: expected a regular file, got a pipe or a device")
        with open(path, "rb") as file:
            start = file.read(9)
    except OSError as error:
        raise InputError(f"{path}: cannot read it: {error.strerror or error}") from None
    if not start:
        raise InputError(f"{path}: expected a mel or a WAV file, got an empty file")
    return start


def _load(path: Path, expected: str, read: Callable[[Path], Any]) -> npt.NDArray[Any]:
    try:
        array: npt.NDArray[Any] = read(path)
        return array
    except InputError:
        raise
    except Exception as error:  # zipfile alone raises nine kinds
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{path}: expected {expected}, got: {reason:.160}") from None


def _from_npy(path: Path) -> Any:
    return np.load(path, allow_pickle=False)


def _from_mapped_npy(path: Path) -> Any:
    return np.load(path, mmap_mode="r", allow_pickle=False)


def _from_npz(path: Path) -> Any:
    with np.load(path, allow_pickle=False) as archive:
        names = [name.removesuffix(".npy") for name in archive.zip.namelist() if name.endswith(".npy")]
        return archive[_select(path, names)]


def _from_safetensors(path: Path) -> Any:
    with safe_open(path, framework="numpy") as content:
        name = _select(path, list(content.keys()))
        dtype = content.get_slice(name).get_dtype()
        if dtype not in ("F16", "F32", "F64"):  # safetensors cannot return all other types as NumPy arrays
            raise InputError(f"{path}: {name!r:.80}: expected F16, F32 or F64, got {dtype}")
        return content.get_tensor(name)


def _select(path: Path, names: Sequence[str]) -> str:
    if "mel" in names or len(names) == 1:
        return "mel" if "mel" in names else names[0]
    if not names:
        raise InputError(f"{path}: expected an array, got a file without any")
    shown = ", ".join(f"{name!r:.80}" for name in names[:5]) + (f" and {len(names) - 5} more" if names[5:] else "")
    raise InputError(f"{path}: expected one array, or one called 'mel', got {len(names)}: {shown}")
