"""Zip archives of torch.save: one pickle, and one record of raw bytes per storage.

All sizes in the archive and the pickle are compared with the file's size before memory is allocated for them.
"""

from __future__ import annotations

import re
import zipfile
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.checkpoint.lazy_tensor import as_float32, read_values, value_width
from engine.checkpoint.source import Source
from engine.checkpoint.unpickler import TensorView
from engine.checks.arrays import FloatArray
from engine.errors import CheckpointError

MAX_PICKLE = 1 << 26  # bytes, most of which may be arrays: SC09 with its Adam state needs 0.2 MB

_ENTRY = re.compile(r"(?!\.\.?/)[^/\\]+/(data\.pkl|data/\d+|\.data/\w+|\.?\w+)")


class TensorRecords:
    """The records of an archive: raw bytes of tensors."""

    def __init__(self, source: Source, entries: list[zipfile.ZipInfo], folder: str) -> None:
        self.source, self.folder = source, folder
        self.entries = {entry.filename: entry for entry in entries}
        self.remaining = source.size  # bytes that may still be read
        order = f"{folder}byteorder"
        self.big_endian = order in self.entries and self.read_entry(order) == b"big"

    def read_entry(self, name: str) -> bytes:
        """Read a small entry, after its size was checked."""
        entry = self.entries[name]
        content = self.source.read(self.begin(entry), entry.file_size)
        if zlib.crc32(content) != entry.CRC:
            raise CheckpointError(f"{name}: expected bytes with the CRC {entry.CRC:08x}, got others: it is damaged")
        return content

    def values(self, view: TensorView) -> npt.NDArray[Any]:
        """Read a tensor's values in the element type of the file; bfloat16 becomes float32."""
        storage = view.storage
        entry = self.entry(view)
        whole = view.span == storage.count
        begin = self.begin(entry) + value_width(storage.dtype) * view.offset
        flat = read_values(
            self.source, begin, storage.dtype, view.span, entry.CRC if whole else None, big_endian=self.big_endian
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
        header = self.source.read(entry.header_offset, 30)
        if header[:4] != b"PK\x03\x04" or len(header) != 30:
            raise CheckpointError(f"{entry.filename}: expected a header in the archive, got none")
        lengths = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
        begin = entry.header_offset + len(header) + lengths
        if begin + entry.file_size > self.source.size:
            raise CheckpointError(f"{entry.filename}: expected {entry.file_size} bytes in the archive, got fewer")
        return begin

    def spend(self, count: int) -> None:
        """Raise CheckpointError if more bytes of tensors are read than the file has."""
        self.remaining -= count
        if self.remaining < 0:
            size = self.source.size
            raise CheckpointError(f"expected at most the file's {size} bytes, got {size - self.remaining}")

    def read(self, name: str, view: TensorView) -> FloatArray:
        """Read a tensor as float32; `name` begins the message of an error."""
        try:
            # Views may repeat values, or many views may be spread over the same record.
            self.spend(value_width(view.storage.dtype) * max(view.size, view.span))
            return as_float32(self.values(view))
        except CheckpointError as error:
            raise CheckpointError(f"{name!r:.80}: {error}") from None


def check_entries(entries: list[zipfile.ZipInfo], size: int) -> str:
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
