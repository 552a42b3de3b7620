"""Content of files that the caller has opened."""

from __future__ import annotations

import os
from typing import Any

from engine.errors import InputError


def reason_of(error: Exception, path: str | os.PathLike[str]) -> str:
    """Return why a file cannot be read, without the number of the error and the name of the file.

    Args:
        error: of opening or reading it.
        path: the file.
    """
    if isinstance(error, FileNotFoundError) and os.path.islink(path):
        return f"it is a link to {os.readlink(path)!r:.200}, which does not exist"
    return getattr(error, "strerror", None) or str(error)


def is_open_file(source: Any) -> bool:
    """Return whether an argument can be read."""
    return callable(getattr(source, "read", None))


def content_of_file(file: Any) -> tuple[bytes, str]:
    """Return the bytes of a file from its position on, and its name in messages.

    Args:
        file: opened for reading with mode "rb"; or another object with such a `read`.

    Raises:
        InputError: it cannot be read, or gives no bytes.
    """
    name = getattr(file, "name", None)
    label = name if isinstance(name, str) else f"<{type(file).__name__}>"
    try:
        content = file.read()
    except (OSError, ValueError) as error:  # closed, opened for writing, or text that is no text
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"path: expected a file opened with mode 'rb', got {label}: {reason}") from None
    if not isinstance(content, (bytes, bytearray, memoryview)):
        what = "one opened as text" if isinstance(content, str) else f"one that gives {type(content).__name__}"
        raise InputError(f"path: expected a file opened with mode 'rb', got {what}, {label}")
    return bytes(content), label
