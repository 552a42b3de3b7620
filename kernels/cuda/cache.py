"""Compiled code on disk: what one process has compiled, later ones read.

It lies in a folder of Triton's cache, and Triton's variables govern both: TRITON_CACHE_DIR moves it, and
TRITON_ALWAYS_COMPILE=1 turns it off. The folder may be removed at any time.

An entry is one file: the SHA-256 of its key and of everything after the first line, a line of JSON with the sizes of
the parts, the parts. It replaces an older one as a whole. An entry whose checksum is wrong counts as absent.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from engine.checks.output_files import replacing

FOLDER = "diffwave-engine"
VERSION = 1  # of the layout of an entry
MOST_BYTES = 64 << 20  # of all entries, some 250 of them

_LOG = logging.getLogger(__name__)


class Code(NamedTuple):
    """A compiled kernel.

    Attributes:
        ptx: the code for the virtual machine.
        cubin: machine code.
        log: the compiler's report.
    """

    ptx: str
    cubin: bytes
    log: str


def key_of(*parts: Any) -> str:
    """Return the key of an entry, from everything that its content depends on.

    Args:
        parts: values that JSON can hold.
    """
    return hashlib.sha256(json.dumps([VERSION, *parts]).encode()).hexdigest()


def load(key: str) -> Code | None:
    """Return an undamaged entry, or None.

    Args:
        key: of the entry.
    """
    if (folder := _folder()) is None:
        return None
    path = folder / key
    try:
        digest, _, content = path.read_bytes().partition(b"\n")
    except OSError:
        return None
    if digest != _digest(key, content):
        _LOG.debug("%s: expected a checksum that holds; the kernel is compiled again", path)
        return None
    with suppress(OSError):  # a folder that is only read
        os.utime(path)
    sizes, _, data = content.partition(b"\n")
    first, second = json.loads(sizes)
    return Code(data[:first].decode(), data[first : first + second], data[first + second :].decode())


def store(key: str, code: Code) -> None:
    """Write an entry, and remove those that were not used for the longest time. A folder that refuses is no error.

    Args:
        key: of the entry.
        code: its content.
    """
    if (folder := _folder()) is None:
        return
    ptx, cubin, log = code.ptx.encode(), code.cubin, code.log.encode()
    content = json.dumps([len(ptx), len(cubin)]).encode() + b"\n" + ptx + cubin + log
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(folder / key) as file:
            file.write(_digest(key, content) + b"\n" + content)
        _remove_oldest(folder)
    except OSError as error:
        _LOG.debug("%s: compiled kernels are not kept: %s", folder, error)


def _folder() -> Path | None:
    """Return the folder of the entries; None if the cache is turned off, or the user has no home folder."""
    from triton import knobs

    if knobs.compilation.always_compile:
        return None
    place = Path(knobs.cache.dir)
    return None if place.parts[:1] == ("~",) else place / FOLDER


def _digest(key: str, content: bytes) -> bytes:
    return hashlib.sha256(key.encode() + content).hexdigest().encode()


def _remove_oldest(folder: Path) -> None:
    entries = []
    for path in folder.iterdir():
        with suppress(OSError):  # another process has removed it
            status = path.stat()
            entries.append((status.st_mtime_ns, status.st_size, path))
    total = 0
    for _, size, path in sorted(entries, reverse=True):
        total += size
        if total > MOST_BYTES:
            with suppress(OSError):
                path.unlink()
