"""Mel files: NumPy arrays, safetensors, tensors of PyTorch, and raw frames from a pipe."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO

import numpy as np
import numpy.typing as npt

from engine.audio import riff
from engine.audio.npy import NPY_MAGIC, Header, check_size, read_header
from engine.audio.wav import encoding
from engine.checkpoint.lazy_tensor import LazyTensor
from engine.checkpoint.pytorch import read_tensors
from engine.checkpoint.safetensors_file import read_safetensors
from engine.checkpoint.source import open_source
from engine.checks.arrays import FloatArray
from engine.checks.file_kinds import START, mistaken_kind
from engine.checks.open_files import reason_of
from engine.checks.output_files import replacing
from engine.errors import CheckpointError, InputError

ZIP_MAGICS = (b"PK\x03\x04", b"PK\x05\x06")  # of .npz and .pt files, and of an archive without entries
PIECE = 1024  # frames

# The first bytes of formats that are neither mels nor audio files, and their position.
_OTHERS = {
    (0, b"\x80\x02\x8a\nl\xfc\x9cF\xf9"): "a PyTorch file in the legacy format; save it again with torch.save",
    (0, b"\x80\x02cnumpy"): "a pickle; save its mel with numpy.save",
    (0, b"\x80\x03cnumpy"): "a pickle; save its mel with numpy.save",
    (0, b"\x89HDF\r\n\x1a\n"): "an HDF5 file; save its mel with numpy.save",
    (0, b"MATLAB 5.0 MAT-f"): "a MATLAB file; save its mel with numpy.save",
    (0, b"\x1a\x45\xdf\xa3"): "a Matroska or WebM file; convert it with 'ffmpeg -i IN -ac 1 OUT.wav'",
    (4, b"ftyp"): "an MP4 file; convert it with 'ffmpeg -i IN -ac 1 OUT.wav'",
}
_OBJECTS = "expected an array of floats, got one of objects, which are never unpickled; save it with dtype float32"
_OF_NUMBERS = frozenset(b"0123456789+-.,eE[] \t\r\n")  # the characters of a table as text


def is_wav(path: Path) -> bool:
    """Return whether a file is a WAV file by its content, or has the suffix of one and the content of no mel.

    Args:
        path: an existing file.

    Raises:
        InputError: the file cannot be read.
    """
    start = _start(path)
    return start[:4] in riff.SIGNATURES or (path.suffix.lower() == ".wav" and not _is_mel(start))


def read_mel(path: Path) -> FloatArray:
    """Read a mel [M, T] from an .npy, .npz, .safetensors or .pt file.

    The content decides the format, not the suffix. Of several arrays the one called "mel" is taken, or the only one of
    floats that has the axes of a mel. A leading axis of 1 is dropped. float16, bfloat16 and float64 become float32.
    `Voice.vocode` checks bands and values. No pickle is ever executed: of a .pt file, `engine.checkpoint.pytorch` reads
    the tensors.

    Args:
        path: the file.

    Raises:
        InputError: the file is unreadable or damaged, has another format, or is not one array of floats with two axes.
    """
    array = _read(path, _from_npy, _from_zip, _from_safetensors)
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


def count_frames(path: Path) -> int:
    """Return the number of frames of a mel file from its header alone.

    Args:
        path: a file that `read_mel` reads.

    Raises:
        InputError: as `read_mel`. Errors in the values are found by reading them, as is the end of an archive.
    """
    shape = _read(path, _shape_of_npy, _shape_in_zip, _shape_in_safetensors)
    return _frames_of(path, tuple(shape))


def read_raw_mel(file: BinaryIO, bands: int, start: bytes = b"") -> Iterator[FloatArray]:
    """Yield mel frames [M, n] from a pipe as they arrive.

    Args:
        file: little-endian float32 values; the bands of a frame stand together.
        bands: M.
        start: what was read of the file before.

    Raises:
        InputError: the input ends within a frame.
    """
    size, rest, block = 4 * bands, b"", start or file.read1()  # type: ignore[attr-defined]
    while block:
        rest += block
        whole = len(rest) // size * size
        if whole:
            yield np.frombuffer(rest[:whole], "<f4").reshape(-1, bands).T.astype(np.float32)
            rest = rest[whole:]
        block = file.read1(64 * size)  # type: ignore[attr-defined]
    if rest:
        raise InputError(f"stdin: expected whole frames of {bands} float32 values, got {len(rest)} bytes more")


def is_raw(start: bytes) -> bool:
    """Return whether a pipe has raw frames, and not a file of another format.

    A format is recognized by at least 4 bytes that are unlikely values of a mel.

    Args:
        start: the first `START` bytes, or all of a shorter input.

    Raises:
        InputError: the input has a known format that is neither a mel nor audio.
    """
    if other := _other(start):
        raise InputError(f"stdin: expected a mel or a recording, got {other}")
    is_mpeg = start[:1] == b"\xff"  # the start of an MP3 file without a tag, or a number
    return not (_is_mel(start) or riff.is_wav(start) or (encoding(start) and not is_mpeg))


@contextmanager
def spooled(file: BinaryIO, start: bytes) -> Iterator[Path]:
    """Copy a pipe into a temporary file, and yield its path; an error about this file names stdin.

    Args:
        file: the pipe, read to its end.
        start: what was read of the pipe before.

    Raises:
        InputError: an error inside the `with` block.
        OSError: the temporary file cannot be written.
    """
    with tempfile.TemporaryDirectory(prefix="engine-") as folder:
        path = Path(folder, "stdin")
        with open(path, "wb") as copy:
            copy.write(start)
            shutil.copyfileobj(file, copy)
        try:
            yield path
        except InputError as error:
            raise InputError(str(error).replace(str(path), "stdin")) from None


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
    _frames_of(path, array.shape)
    return array


def _frames_of(path: Path, shape: tuple[int, ...]) -> int:
    if len(shape) != 2 and (len(shape) != 3 or shape[0] != 1):
        raise InputError(f"{path}: expected one mel of shape [M, T] or [1, M, T], got shape {shape!s:.80}")
    return shape[-1]


def _as_float32(array: npt.NDArray[Any]) -> FloatArray:
    with np.errstate(over="ignore"):  # becomes infinite, which vocode refuses
        return array.astype(np.float32, copy=False)


def _start(path: Path) -> bytes:
    """Return the first `START` bytes of a regular, non-empty file."""
    try:
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            raise InputError(f"{path}: expected a file, got a directory")
        if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait, and it could not be read twice
            raise InputError(f"{path}: expected a regular file, got a pipe or a device")
        with open(path, "rb") as file:
            start = file.read(START)
    except OSError as error:
        raise InputError(f"{path}: cannot read it: {reason_of(error, path)}") from None
    if not start:
        raise InputError(f"{path}: expected a mel or a WAV file, got an empty file")
    return start


def _read(path: Path, npy: Callable[[Path], Any], archive: Callable[[Path], Any], safe: Callable[[Path], Any]) -> Any:
    """Read a mel file with the reader of its format, which its first bytes tell.

    Args:
        path: the file.
        npy: of .npy files.
        archive: of .npz and .pt files.
        safe: of safetensors files.
    """
    start = _start(path)
    if start[:6] == NPY_MAGIC:
        return _load(path, "an .npy array", npy)
    if start[:4] in ZIP_MAGICS:
        return _load(path, "an .npz or .pt archive", archive)
    if start[8:9] == b"{":
        return _load(path, "a safetensors file", safe)
    unknown = f"a file that starts with {start[:9]!r}; convert other audio first, for example with "
    got = _other(start) or f"{unknown}'ffmpeg -i IN -ac 1 OUT.wav'"
    raise InputError(f"{path}: expected a mel (.npy, .npz, .safetensors or .pt) or a WAV file, got {got}")


def _load(path: Path, expected: str, read: Callable[[Path], Any]) -> Any:
    try:
        return read(path)
    except InputError:
        raise
    except MemoryError as error:
        raise MemoryError(f"{path}: {str(error) or 'not enough memory'}") from None
    except Exception as error:  # zipfile alone raises nine kinds
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{path}: expected {expected}, got a damaged or incomplete one ({reason:.160})") from None


def _from_npy(path: Path) -> Any:
    _header_of_npy(path)
    return np.load(path, allow_pickle=False)


def _from_mapped_npy(path: Path) -> Any:
    _header_of_npy(path)
    return np.load(path, mmap_mode="r", allow_pickle=False)


def _shape_of_npy(path: Path) -> tuple[int, ...]:
    return _header_of_npy(path).shape


def _header_of_npy(path: Path) -> Header:
    """Return the header of an .npy file, and check that the file is complete."""
    with open(path, "rb") as file:
        try:
            header = read_header(file)
            if header.dtype.hasobject:
                raise InputError(_OBJECTS)
            check_size(header, os.fstat(file.fileno()).st_size - file.tell(), exact=False)
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
        return header


def _header(path: Path, file: IO[bytes]) -> tuple[tuple[int, ...], str]:
    """Return the shape and the kind of the element type of an array in an archive."""
    try:
        header = read_header(file)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    return header.shape, header.dtype.kind


def _from_zip(path: Path) -> Any:
    if _is_pytorch(path):
        with _naming(path):
            return _in_pytorch(path).read()
    with np.load(path, allow_pickle=False) as archive:
        name = _name_in_npz(path, archive.zip)
        with archive.zip.open(f"{name}.npy") as file:
            if _header(path, file)[1] == "O":
                raise InputError(f"{path}: {_OBJECTS}")
        return archive[name]


def _shape_in_zip(path: Path) -> tuple[int, ...]:
    if _is_pytorch(path):
        with _naming(path):
            return _in_pytorch(path).shape
    with zipfile.ZipFile(path) as archive, archive.open(f"{_name_in_npz(path, archive)}.npy") as file:
        return _header(path, file)[0]


def _is_pytorch(path: Path) -> bool:
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/data.pkl") for name in archive.namelist())


def _name_in_npz(path: Path, archive: zipfile.ZipFile) -> str:
    names = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
    if "mel" in names or len(names) == 1:
        return _select(path, names, {})
    shapes = {}
    for name in names:
        with archive.open(f"{name}.npy") as file:
            shape, kind = _header(path, file)
        if kind == "f":
            shapes[name] = shape
    return _select(path, names, shapes)


def _in_pytorch(path: Path) -> LazyTensor:
    tensors = read_tensors(path)
    if not tensors:
        raise InputError(
            f"{path}: expected a tensor, or a dict with one or with one called 'mel', got none; a checkpoint is "
            "passed as --model"
        )
    return _among(path, tensors)


def _from_safetensors(path: Path) -> Any:
    with _naming(path):
        return _in_safetensors(path).read()


def _shape_in_safetensors(path: Path) -> tuple[int, ...]:
    with _naming(path):
        return _in_safetensors(path).shape


def _in_safetensors(path: Path) -> LazyTensor:
    return _among(path, read_safetensors(open_source(path))[0])


def _among(path: Path, tensors: dict[str, LazyTensor]) -> LazyTensor:
    usable = {name: tensor.shape for name, tensor in tensors.items() if not tensor.problem}
    return tensors[_select(path, list(tensors), usable)]


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Turn the errors of checkpoints into those of a mel file."""
    try:
        yield
    except CheckpointError as error:
        raise InputError(f"{path}: {str(error).removeprefix(f'{path}: ')}") from None


def _select(path: Path, names: Sequence[str], shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Return the name of the mel: "mel", the only array, or the only one of floats that has the axes of a mel.

    Args:
        path: the file.
        names: of its arrays.
        shapes: of the arrays of floats.
    """
    if "mel" in names or len(names) == 1:
        return "mel" if "mel" in names else names[0]
    likely = [name for name, shape in shapes.items() if len(shape) == 2 or (len(shape) == 3 and shape[0] == 1)]
    if len(likely) == 1:
        return likely[0]
    if not names:
        raise InputError(f"{path}: expected an array, got a file without any")
    shown = ", ".join(f"{name!r:.80}" for name in names[:5]) + (f" and {len(names) - 5} more" if names[5:] else "")
    raise InputError(f"{path}: expected one array, or one called 'mel', got {len(names)}: {shown}")


def _is_mel(start: bytes) -> bool:
    """Return whether a file is a mel by its first `START` bytes: .npy, .npz, .pt or safetensors."""
    length = int.from_bytes(start[:8], "little")  # of a safetensors header
    return (
        start[:6] == NPY_MAGIC
        or start[:4] in ZIP_MAGICS
        or (2 <= length < 2**32 and start[8:10] in (b'{"', b"{}", b"{ ", b"{\n"))
    )


def _other(start: bytes) -> str | None:
    """Return what a file is that is neither a mel nor audio, and the remedy; None if that is unknown."""
    # A pickle of protocol 4 or 5 states the length of its first frame in 8 bytes.
    if start[:3] in (b"\x80\x04\x95", b"\x80\x05\x95") and start[7:11] == bytes(4):
        return "a pickle; save its mel with numpy.save"
    if len(start) == START and set(start) <= _OF_NUMBERS:  # as floats: below 0.0002 or above 500
        return "text; save its mel with numpy.save"
    if kind := mistaken_kind(start):
        return kind
    return next((text for (at, magic), text in _OTHERS.items() if start[at : at + len(magic)] == magic), None)
