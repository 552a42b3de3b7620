"""Paths as callers and manifests write them: checks before the file system sees them."""

from __future__ import annotations

import ast
import os
import re
from pathlib import Path
from typing import Any

from engine.errors import InputError


def check_name(text: str, argument: str) -> str:
    """Return a text that can name a file.

    Args:
        text: a path, or a part of one.
        argument: where it stands, for the error.

    Raises:
        InputError: the text has a zero, or characters that no name of a file has.
    """
    try:
        if b"\0" not in os.fsencode(text):
            return text
    except UnicodeEncodeError:
        pass
    raise InputError(f"{argument}: expected the name of a file, got {text!r:.120}")


def text_of(value: Any, argument: str, expected: str = "a path") -> str:
    """Return a path as a text.

    Args:
        value: a text, or an object with a path.
        argument: the caller's name of it, for errors.
        expected: for errors.

    Raises:
        InputError: it is of another type, empty, or no path.
    """
    try:
        text = os.fspath(value)
    except TypeError:
        raise InputError(f"{argument}: expected {expected}, got {type(value).__name__}") from None
    if not isinstance(text, str) or not text:
        raise InputError(f"{argument}: expected {expected}, got {'an empty text' if text == '' else repr(text)[:80]}")
    return check_name(text, argument)


def at_home(text: str) -> str:
    """Return a path with the home folder in place of "~"; a file of that very name comes first.

    Args:
        text: the path.
    """
    return text if os.path.lexists(text) else os.path.expanduser(text)


def folder_of(value: Any) -> Path:
    """Return the folder of the results.

    Args:
        value: as the caller passed it.

    Raises:
        InputError: it is no path.
    """
    return Path(at_home(text_of(value, "folder")))


def without_argument(reason: str) -> str:
    """Return an error of a recording without the name of the argument: "path: 'a.wav': ..." becomes "a.wav: ...".

    Args:
        reason: the text of the error.
    """
    match = re.match(r"path: ('(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"): ", reason)
    return f"{ast.literal_eval(match[1])}: {reason[match.end() :]}" if match else reason
