"""Reader of PyTorch checkpoints that needs no PyTorch and executes nothing in the file.

A .pt, .pkl or .ckpt file is a zip archive of raw tensor bytes and one pickle (`engine.checkpoint.unpickler`). All sizes
in the archive and the pickle are checked against the file's size before memory is allocated for them.
"""

from __future__ import annotations

import io
import os
import re
import stat
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.checkpoint.lazy_tensor import BFLOAT16, LazyTensor, as_float32, one_line, read_values, value_width
from engine.checkpoint.unpickler import Namespace, TensorView, read_pickle
from engine.checks.arrays import FloatArray
from engine.errors import CheckpointError

MAX_DIRECTORY = 1 << 20  # bytes of zip directory: about 10,000 tensors
MAX_PICKLE = 1 << 19  # bytes; its objects take up to 80 times as much, and SC09 with its Adam state needs 0.2 MB
MAX_LIST_VALUES = 10000  # of all hyper-parameters that are tensors

_ENTRY = re.compile(r"(?!\.\.?/)[^/\\]+/(data\.pkl|data/\d+|\.data/\w+|\.?\w+)")
_FLOAT_DTYPES = ("f2", BFLOAT16, "f4", "f8")
# The keys of the weights in a trainer's dict, and the key of the hyper-parameters beside each.
_CONTAINERS = {"model": "params", "model_state_dict": "config", "state_dict": "config"}


@dataclass(frozen=True)
class Archive:
    """The content of a PyTorch checkpoint.

    Attributes:
        tensors: the weights, under the file's own names.
        params: the hyper-parameters beside them, {} if there are none.
        container: the key of the dict that contains the weights, "" for a bare state_dict.
    """

    tensors: dict[str, LazyTensor]
    params: dict[Any, Any]
    container: str


def file_start(path: str | os.PathLike[str]) -> tuple[int, bytes]:
    """Return the size and the first 9 bytes of a file.

    Args:
        path: the file.

    Raises:
        CheckpointError: the path is not a regular, non-empty, readable file.
    """
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
        reason = getattr(error, "strerror", None) or error
        raise CheckpointError(f"{path}: expected a checkpoint file, got: {reason}") from None
    if not start:
        raise CheckpointError(f"{path}: expected a checkpoint, got an empty file")
    return status.st_size, start


def read_pytorch(path: str | os.PathLike[str]) -> Archive:
    """Read the weights and hyper-parameters of a PyTorch checkpoint (zip format, torch 1.6 or later).

    The weights are a dict under "model" (LMNT, PriorGrad), "model_state_dict" (philsyn, BDDM) or "state_dict", or a
    bare state_dict. Optimizer state and storage devices are ignored.

    Args:
        path: the file.

    Raises:
        CheckpointError: the file has another format, is damaged, claims more bytes than it has, or refers to code.
    """
    with _opened(Path(path)) as (content, records):
        model, params, container = _model_and_params(content)
        tensors = _lazy_tensors(records, model)
        params.update(_tensor_params_as_lists(records, params))
    return Archive(tensors, params, container)


def read_tensors(path: str | os.PathLike[str]) -> dict[str, LazyTensor]:
    """Read a PyTorch file that contains a tensor, or a dict, list or tuple with tensors.

    Entries that are neither tensors nor NumPy arrays are ignored, and so are dicts inside the dict.

    Args:
        path: the file.

    Returns:
        The tensors by the keys of the dict or the positions in the list; "" for a single tensor. Reading a tensor of
        integers raises CheckpointError.

    Raises:
        CheckpointError: as `read_pytorch`.
    """
    with _opened(Path(path)) as (content, records):
        if isinstance(content, (list, tuple)):
            content = {str(index): value for index, value in enumerate(content)}
        elif not isinstance(content, dict):
            content = {"": content}
        return {
            str(name): LazyTensor(tuple(value.shape), partial(_read_floats, records, str(name), value))
            for name, value in content.items()
            if isinstance(value, (TensorView, np.ndarray))
        }


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, _TensorRecords]]:
    """Yield the content of the pickle and the records of the tensors; errors name the file."""
    size, start = file_start(path)
    try:
        if start[:2] in (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"):
            raise CheckpointError("expected a zip archive, got a legacy pickle; save it again with torch.save")
        if start[:4] != b"PK\x03\x04":
            raise CheckpointError(f"expected a PyTorch zip archive, got a file that begins with {start!r}")
        with _BoundedFile(path) as file, zipfile.ZipFile(file) as archive:
            name = _check_entries(archive.infolist(), size)
            records = _TensorRecords(path, size, archive, name.removesuffix("data.pkl"))
            yield _read_pickle(archive.read(name)), records
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
    except Exception as error:  # zipfile alone raises nine types
        raise CheckpointError(f"{path}: expected a zip archive, got a damaged one: {one_line(error)}") from None


def _read_pickle(program: bytes) -> Any:
    try:
        return read_pickle(program)
    except CheckpointError:
        raise
    except Exception as error:  # a damaged pickle can fail with any exception
        raise CheckpointError(f"expected a pickle of tensors, got a damaged one: {one_line(error)}") from None


def _model_and_params(content: Any) -> tuple[dict[Any, Any], dict[Any, Any], str]:
    if isinstance(content, dict):
        for container, params_key in _CONTAINERS.items():
            if isinstance(content.get(container), dict):
                params = content.get(params_key)
                if isinstance(params, Namespace):
                    params = params.values
                return content[container], dict(params) if isinstance(params, dict) else {}, container
        if content and all(isinstance(value, TensorView) for value in content.values()):
            return content, {}, ""
    keys = [str(key)[:40] for key in list(content)[:3]] if isinstance(content, dict) else type(content).__name__
    raise CheckpointError(f"expected a dict with {', '.join(map(repr, _CONTAINERS))} or a state_dict, got {keys}")


class _TensorRecords:
    """The records of an archive: raw bytes of tensors."""

    def __init__(self, path: Path, size: int, archive: zipfile.ZipFile, folder: str) -> None:
        self.path, self.size, self.folder = path, size, folder
        self.entries = {entry.filename: entry for entry in archive.infolist()}
        order = self.entries.get(f"{folder}byteorder")
        self.big_endian = order is not None and archive.read(order) == b"big"

    def values(self, view: TensorView) -> npt.NDArray[Any]:
        """Read a tensor's values in the element type of the file; bfloat16 becomes float32."""
        storage = view.storage
        entry = self.entry(view)
        whole = view.span == storage.count
        begin = self.begin(entry) + value_width(storage.dtype) * view.offset
        flat = read_values(
            self.path, begin, storage.dtype, view.span, entry.CRC if whole else None, big_endian=self.big_endian
        )
        strides = tuple(stride * flat.itemsize for stride in view.strides)
        return np.lib.stride_tricks.as_strided(flat, view.shape, strides)

    def entry(self, view: TensorView) -> zipfile.ZipInfo:
        """Return the record of a tensor, after comparing its length with the pickle."""
        storage = view.storage
        name = f"{self.folder}data/{storage.key:.20}"
        expected = storage.count * value_width(storage.dtype)
        entry = self.entries.get(name)
        if entry is None or entry.file_size != expected:
            got = "nothing" if entry is None else entry.file_size
            raise CheckpointError(f"{name}: expected {expected} bytes as in the pickle, got {got}")
        return entry

    def begin(self, entry: zipfile.ZipInfo) -> int:
        """Return the position of a record's first byte, behind the header that precedes it."""
        with open(self.path, "rb") as file:
            file.seek(entry.header_offset)
            header = file.read(30)
        if header[:4] != b"PK\x03\x04" or len(header) != 30:
            raise CheckpointError(f"{entry.filename}: expected a header in the archive, got none")
        lengths = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
        begin = entry.header_offset + len(header) + lengths
        if begin + entry.file_size > self.size:
            raise CheckpointError(f"{entry.filename}: expected {entry.file_size} bytes in the archive, got fewer")
        return begin

    def read(self, name: str, view: TensorView) -> FloatArray:
        """Read a tensor as float32; `name` begins the message of an error."""
        try:
            return as_float32(self.values(view))
        except CheckpointError as error:
            raise CheckpointError(f"{name!r:.80}: {error}") from None


def _lazy_tensors(records: _TensorRecords, model: dict[Any, Any]) -> dict[str, LazyTensor]:
    total = 0
    tensors = {}
    for name, view in model.items():
        if type(name) is not str:
            raise CheckpointError(f"expected tensors under names, got a key of type {type(name).__name__}")
        if not isinstance(view, TensorView):
            raise CheckpointError(f"{name!r:.80}: expected a tensor, got a {type(view).__name__}")
        if view.storage.dtype not in _FLOAT_DTYPES:
            raise CheckpointError(f"{name!r:.80}: expected float values, got {np.dtype(view.storage.dtype).name}")
        records.entry(view)
        total += value_width(view.storage.dtype) * max(view.size, view.span)
        tensors[name] = LazyTensor(view.shape, partial(records.read, name, view))
    if total > records.size:  # views that repeat values, or many views that are spread over the same record
        raise CheckpointError(f"expected at most the file's {records.size} bytes of weights, got {total}")
    return tensors


def _read_floats(records: _TensorRecords, name: str, value: TensorView | npt.NDArray[Any]) -> FloatArray:
    """Read a tensor or an array of floats, not larger than the file."""
    dtype = value.storage.dtype if isinstance(value, TensorView) else value.dtype.str[1:]
    if dtype not in _FLOAT_DTYPES:
        raise CheckpointError(f"{name!r:.80}: expected float values, got {np.dtype(dtype).name:.80}")
    if isinstance(value, TensorView):
        total = value_width(dtype) * value.size
        if total > records.size:  # a view that repeats values
            raise CheckpointError(f"{name!r:.80}: expected at most the file's {records.size} bytes, got {total}")
        return records.read(name, value)
    return as_float32(value)


def _tensor_params_as_lists(records: _TensorRecords, params: dict[Any, Any]) -> dict[Any, Any]:
    """Return hyper-parameters that are tensors as lists, up to MAX_LIST_VALUES values in total."""
    remaining = MAX_LIST_VALUES
    lists = {}
    for key, value in params.items():
        if isinstance(value, TensorView) and max(value.size, value.span) <= remaining:
            lists[key] = records.values(value).tolist()
            remaining -= value.size
    return lists


class _BoundedFile(io.FileIO):
    """A file that refuses large reads: zipfile reads the whole directory of an archive at once."""

    def read(self, size: int | None = -1, /) -> bytes:
        """Read up to `size` bytes, at most MAX_DIRECTORY."""
        if size is not None and size > MAX_DIRECTORY:
            raise zipfile.BadZipFile(f"expected a directory of at most {MAX_DIRECTORY} bytes, got {size}")
        return super().read(-1 if size is None else size) or b""


def _check_entries(entries: list[zipfile.ZipInfo], size: int) -> str:
    """Check that the entries of an archive are those that torch.save writes.

    Args:
        entries: of the archive.
        size: of the file, in bytes.

    Returns:
        The name of the pickle.

    Raises:
        CheckpointError: an entry is repeated, compressed, foreign or too large.
    """
    seen = set()
    for entry in entries:
        name = entry.filename
        if not _ENTRY.fullmatch(name):
            raise CheckpointError(f"expected the entries of torch.save, got {name!r:.80}")
        if name.lower() in seen:  # torch would read either one
            raise CheckpointError(f"expected unique entries, got {name!r:.80} twice")
        seen.add(name.lower())
        if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
            raise CheckpointError(f"expected uncompressed entries, got {name!r:.80} compressed or encrypted")
        if name.endswith(("/data.pkl", "/byteorder")) and entry.file_size > MAX_PICKLE:
            raise CheckpointError(f"expected a pickle of at most {MAX_PICKLE} bytes, got {entry.file_size}")
    total = sum(max(entry.file_size, entry.compress_size) for entry in entries)
    if total > size:
        raise CheckpointError(f"expected at most the file's {size} bytes of content, got {total} in its directory")
    roots = {entry.filename.split("/")[0] for entry in entries}
    pickles = [entry.filename for entry in entries if entry.filename.endswith("/data.pkl")]
    if len(roots) != 1 or len(pickles) != 1:
        raise CheckpointError(f"expected one folder with one data.pkl, got {len(roots)} with {len(pickles)}")
    return pickles[0]
