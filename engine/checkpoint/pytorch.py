"""PyTorch checkpoints, read without PyTorch and without running what they contain.

A .pt, .pkl or .ckpt file is a zip archive of raw tensor bytes and one pickle (`engine.checkpoint.unpickler`). Whatever the archive
or the pickle claims is checked against the file's size before memory is spent on it.
"""

from __future__ import annotations

import io
import os
import re
import stat
import zipfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.checkpoint.lazy_tensor import BFLOAT16, Stored, as_float32, one_line, read_values
from engine.checkpoint.unpickler import Attributes, View, read_pickle
from engine.checks.arrays import FloatArray
from engine.errors import CheckpointError

MAX_DIRECTORY = 1 << 20  # bytes of zip directory: about 10,000 tensors
MAX_PICKLE = 1 << 19  # of which a reader makes up to 80 times as much; SC09 with its Adam state needs 0.2 MB
MAX_LIST = 10000  # values of all hyper-parameters that are tensors

_ENTRY = re.compile(r"(?!\.\.?/)[^/\\]+/(data\.pkl|data/\d+|\.data/\w+|\.?\w+)")
_FLOATS = {"f2": 2, BFLOAT16: 2, "f4": 4, "f8": 8}
# Under which key a trainer's dict has the weights, and under which its hyper-parameters.
_CONTAINERS = {"model": "params", "model_state_dict": "config", "state_dict": "config"}


@dataclass(frozen=True)
class Archive:
    """What a PyTorch checkpoint holds.

    Attributes:
        tensors: the weights, under the file's own names.
        params: the hyper-parameters beside them, {} when there are none.
        container: the key of the dict that had the weights, "" for a bare state_dict.
    """

    tensors: dict[str, Stored]
    params: dict[Any, Any]
    container: str


def file_start(path: str | os.PathLike[str]) -> tuple[int, bytes]:
    """Size and first 9 bytes of a regular, non-empty, readable file; CheckpointError for anything else."""
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait
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
    """The weights and hyper-parameters of a PyTorch checkpoint (zip format, torch 1.6 or later).

    Reads a dict of weights under "model" (LMNT, PriorGrad), "model_state_dict" (philsyn, BDDM) or "state_dict", and a
    bare state_dict. Optimizer state and storage devices do not matter.

    Raises:
        CheckpointError: not such a file, damaged, larger inside than outside, or asking for code.
    """
    path = Path(path)
    size, start = file_start(path)
    try:
        if start[:2] in (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"):
            raise CheckpointError("expected a zip archive, got a legacy pickle: save it again with torch.save")
        if start[:4] != b"PK\x03\x04":
            raise CheckpointError(f"expected a PyTorch zip archive, got a file that begins with {start!r}")
        with _Directory(path) as file, zipfile.ZipFile(file) as archive:
            name = _checked_entries(archive.infolist(), size)
            records = _Records(path, size, archive, name.removesuffix("data.pkl"))
            content = _read_pickle(archive.read(name))
            model, params, container = _model_and_params(content)
            tensors = _tensors(records, model)
            params.update(_lists(records, params))
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
    except Exception as error:  # zipfile alone raises nine kinds
        raise CheckpointError(f"{path}: a damaged zip archive: {one_line(error)}") from None
    return Archive(tensors, params, container)


def _read_pickle(program: bytes) -> Any:
    try:
        return read_pickle(program)
    except CheckpointError:
        raise
    except Exception as error:  # a damaged program fails in as many ways as a program can
        raise CheckpointError(f"expected a pickle of tensors, got a damaged one: {one_line(error)}") from None


def _model_and_params(content: Any) -> tuple[dict[Any, Any], dict[Any, Any], str]:
    if isinstance(content, dict):
        for container, beside in _CONTAINERS.items():
            if isinstance(content.get(container), dict):
                params = content.get(beside)
                if isinstance(params, Attributes):
                    params = params.values
                return content[container], dict(params) if isinstance(params, dict) else {}, container
        if content and all(isinstance(value, View) for value in content.values()):
            return content, {}, ""
    keys = [str(key)[:40] for key in list(content)[:3]] if isinstance(content, dict) else type(content).__name__
    raise CheckpointError(f"expected a dict with {', '.join(map(repr, _CONTAINERS))} or a state_dict, got {keys}")


class _Records:
    """The raw bytes of an archive's tensors."""

    def __init__(self, path: Path, size: int, archive: zipfile.ZipFile, folder: str) -> None:
        self.path, self.size, self.folder = path, size, folder
        self.entries = {entry.filename: entry for entry in archive.infolist()}
        order = self.entries.get(f"{folder}byteorder")
        self.big_endian = order is not None and archive.read(order) == b"big"

    def values(self, view: View) -> npt.NDArray[Any]:
        """A tensor's values, of its own type; bfloat16 becomes float32."""
        storage = view.storage
        entry = self.entry(view)
        width = 2 if storage.dtype == BFLOAT16 else np.dtype(storage.dtype).itemsize
        whole = view.span == storage.count
        begin = self.begin(entry) + width * view.offset
        flat = read_values(
            self.path, begin, storage.dtype, view.span, entry.CRC if whole else None, big_endian=self.big_endian
        )
        strides = tuple(stride * flat.itemsize for stride in view.strides)
        return np.lib.stride_tricks.as_strided(flat, view.shape, strides)

    def entry(self, view: View) -> zipfile.ZipInfo:
        """The record of a tensor, which must be as long as the pickle says."""
        storage = view.storage
        name = f"{self.folder}data/{storage.key:.20}"
        expected = storage.count * (2 if storage.dtype == BFLOAT16 else np.dtype(storage.dtype).itemsize)
        entry = self.entries.get(name)
        if entry is None or entry.file_size != expected:
            got = "nothing" if entry is None else entry.file_size
            raise CheckpointError(f"{name}: expected the {expected} bytes that the pickle claims, got {got}")
        return entry

    def begin(self, entry: zipfile.ZipInfo) -> int:
        """Where the bytes of a record begin: behind a header of their own."""
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

    def read(self, name: str, view: View) -> FloatArray:
        try:
            return as_float32(self.values(view))
        except CheckpointError as error:
            raise CheckpointError(f"{name!r:.80}: {error}") from None


def _tensors(records: _Records, model: dict[Any, Any]) -> dict[str, Stored]:
    total = 0
    tensors = {}
    for name, view in model.items():
        if type(name) is not str:
            raise CheckpointError(f"expected tensors under names, got a key of type {type(name).__name__}")
        if not isinstance(view, View):
            raise CheckpointError(f"{name!r:.80}: expected a tensor, got a {type(view).__name__}")
        width = _FLOATS.get(view.storage.dtype)
        if width is None:
            raise CheckpointError(f"{name!r:.80}: expected float values, got {np.dtype(view.storage.dtype).name}")
        records.entry(view)
        total += width * max(view.size, view.span)
        tensors[name] = Stored(view.shape, partial(records.read, name, view))
    if total > records.size:  # views that repeat values, or of which many lie far apart in the same bytes
        raise CheckpointError(f"expected at most the file's {records.size} bytes of weights, got {total}")
    return tensors


def _lists(records: _Records, params: dict[Any, Any]) -> dict[Any, Any]:
    """Hyper-parameters that are tensors, as lists, until there are too many values to be any."""
    left = MAX_LIST
    lists = {}
    for key, value in params.items():
        if isinstance(value, View) and max(value.size, value.span) <= left:
            lists[key] = records.values(value).tolist()
            left -= value.size
    return lists


class _Directory(io.FileIO):
    """A file that refuses the single large read with which zipfile takes in a whole zip directory."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > MAX_DIRECTORY:
            raise zipfile.BadZipFile("its directory has an absurd number of entries")
        return super().read(-1 if size is None else size) or b""


def _checked_entries(entries: list[zipfile.ZipInfo], size: int) -> str:
    """The name of the pickle among the entries of an archive as torch.save writes it; CheckpointError for others."""
    seen = set()
    for entry in entries:
        name = entry.filename
        if not _ENTRY.fullmatch(name):
            raise CheckpointError(f"expected the entries of torch.save, got {name!r:.80}")
        if name.lower() in seen:  # torch finds either, and we must see what it sees
            raise CheckpointError(f"expected every entry once, got {name!r:.80} twice")
        seen.add(name.lower())
        if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
            raise CheckpointError(f"expected plainly stored entries, got {name!r:.80} compressed or encrypted")
        if name.endswith(("/data.pkl", "/byteorder")) and entry.file_size > MAX_PICKLE:
            raise CheckpointError(f"expected a pickle of at most {MAX_PICKLE} bytes, got {entry.file_size}")
    total = sum(max(entry.file_size, entry.compress_size) for entry in entries)
    if total > size:
        raise CheckpointError(f"expected at most the file's {size} bytes of content, got a claim of {total}")
    roots = {entry.filename.split("/")[0] for entry in entries}
    pickles = [entry.filename for entry in entries if entry.filename.endswith("/data.pkl")]
    if len(roots) != 1 or len(pickles) != 1:
        raise CheckpointError(f"expected one folder with one data.pkl, got {len(roots)} with {len(pickles)}")
    return pickles[0]
