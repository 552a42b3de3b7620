"""Warnings at the line that called the engine."""

from __future__ import annotations

import sys
import warnings


def warn_caller(message: str) -> None:
    """Issue a warning at the line outside the engine that called it.

    Args:
        message: the text.
    """
    warnings.warn(message, UserWarning, stacklevel=_level_of_the_caller())


def _level_of_the_caller() -> int:
    """Return the stack level, seen from `warn_caller`, of the first caller outside the engine."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "engine":
        frame, level = frame.f_back, level + 1
    return level
