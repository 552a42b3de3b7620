"""Content of a checkpoint: a file, or bytes in memory."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.checks.open_files import reason_of
from engine.errors import CheckpointError

_BLOCK = 1 << 20  # bytes read at a time for a checksum
MAX_DIRECTORY = 1 << 20  # bytes of zip directory: about 10,000 tensors


@dataclass(frozen=True, eq=False)
class Source:
    """The bytes of a checkpoint, without a copy of them.

    Attributes:
        name: for messages; the path of a file.
        size: in bytes.
        start: the first 9 bytes.
        content: the file, or the bytes themselves.
        folder: where a config.json may lie; None for bytes in memory.
    """

    name: str
    size: int
    start: bytes
    content: Path | bytes
    folder: Path | None

    def read(self, begin: int, count: int) -> bytes:
        """Return up to `count` bytes from a position on."""
        if isinstance(self.content, bytes):
            return self.content[begin : begin + count]
        with open(self.content, "rb") as file:
            file.seek(begin)
            return file.read(count)

    def values(self, begin: int, dtype: npt.DTypeLike, count: int) -> npt.NDArray[Any]:
        """Return up to `count` values from a position on, in memory that belongs to the caller.

        Args:
            begin: in bytes.
            dtype: of the values.
            count: the number of values.
        """
        if not isinstance(self.content, bytes):
            return np.fromfile(self.content, dtype, count, offset=begin)
        width = np.dtype(dtype).itemsize
        whole = min(count, max(0, len(self.content) - begin) // width)
        values = np.empty(whole, dtype)
        if whole:
            values[:] = np.frombuffer(self.content, dtype, whole, begin)
        return values

    def sha256(self) -> str:
        """Return the SHA-256 of the content in hexadecimal digits."""
        checksum, begin = hashlib.sha256(), 0
        while block := self.read(begin, _BLOCK):
            checksum.update(block)
            begin += len(block)
        return checksum.hexdigest()

    @contextmanager
    def archive(self) -> Iterator[zipfile.ZipFile]:
        """Open the content as a zip archive that refuses large reads."""
        file = _BoundedBytes(self.content) if isinstance(self.content, bytes) else _BoundedFile(self.content)
        with file, zipfile.ZipFile(file) as archive:
            yield archive


def open_source(model: str | os.PathLike[str] | bytes, name: str | None = None) -> Source:
    """Return the content of a checkpoint.

    Args:
        model: a path, or the content itself.
        name: for messages about content in memory.

    Raises:
        CheckpointError: the path is not a regular, non-empty, readable file.
    """
    if isinstance(model, bytes):
        label = name or "checkpoint"
        if not model:
            raise CheckpointError(f"{label}: expected a checkpoint, got no bytes")
        return Source(label, len(model), model[:9], model, None)
    path = Path(model)
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):  # opening a pipe would block
            what = "a directory" if stat.S_ISDIR(status.st_mode) else "something that is not a regular file"
            raise CheckpointError(f"{path}: expected a checkpoint file, got {what}")
        with open(path, "rb") as file:
            start = file.read(9)
    except (OSError, ValueError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{model}: cannot read it: {reason_of(error, path)}") from None
    if not start:
        raise CheckpointError(f"{path}: expected a checkpoint, got an empty file")
    return Source(str(path), status.st_size, start, path, path.parent)


def _check_read(size: int | None) -> int:
    if size is not None and size > MAX_DIRECTORY:
        raise zipfile.BadZipFile(f"expected a directory of at most {MAX_DIRECTORY} bytes, got {size}")
    return -1 if size is None else size


class _BoundedFile(io.FileIO):
    """A file that refuses large reads: zipfile reads the whole directory of an archive at once."""

    def read(self, size: int | None = -1, /) -> bytes:
        """Read up to `size` bytes, at most MAX_DIRECTORY."""
        return super().read(_check_read(size)) or b""


class _BoundedBytes(io.BytesIO):
    """Bytes that refuse large reads."""

    def read(self, size: int | None = -1, /) -> bytes:
        """Read up to `size` bytes, at most MAX_DIRECTORY."""
        return super().read(_check_read(size))
