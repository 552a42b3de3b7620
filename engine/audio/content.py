"""The bytes of a recording from where callers have it: a path, bytes, or an open file."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import BinaryIO, TypeAlias

from engine.checks.open_files import content_of_file, is_open_file, reason_of
from engine.errors import InputError

# A path, in which "~" is the home folder; the content of a file; or a file opened for reading bytes.
Recording: TypeAlias = "str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO"

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")  # Path("https://x") has one slash


def content_of(source: Recording) -> tuple[bytes, str]:
    """Return the content of a recording, and its name in messages.

    Args:
        source: a path, bytes, or an open file, which is read from its position on.

    Raises:
        InputError: it cannot be read.
    """
    if isinstance(source, (bytes, bytearray, memoryview)):
        return bytes(source), "<bytes>"
    if is_open_file(source):
        return content_of_file(source)
    try:
        path = Path(source).expanduser()  # type: ignore[arg-type]
        return path.read_bytes(), os.fspath(source)  # type: ignore[arg-type]
    except (OSError, ValueError, TypeError, RuntimeError) as error:  # RuntimeError: a home folder that is unknown
        if isinstance(error, FileNotFoundError) and _ADDRESS.match(os.fspath(source)):  # type: ignore[arg-type]
            raise InputError(f"path: expected a file, got the address {source!r:.120}; download it first") from None
        if isinstance(error, TypeError):
            kind = type(source).__name__
            raise InputError(f"path: expected a path, bytes or a file opened with mode 'rb', got {kind}") from None
        why = reason_of(error, os.path.expanduser(source))  # type: ignore[arg-type]
        raise InputError(f"path: {source!r:.300}: cannot read it: {why}") from error


def reason(error: Exception) -> str:
    """Return the text of an error without its number and its file."""
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)
