"""Warnings of one item, where other threads may record those of others."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class _Recorder(threading.local):
    """The recording of this thread, and what all threads share.

    `warnings.catch_warnings` belongs to the process: two blocks that overlap in two threads restore the filters in the
    wrong order, and all later warnings of the process are lost.
    """

    texts: list[str] | None = None


_OF_THREAD = _Recorder()
_LOCK = threading.Lock()
_BLOCKS: list[warnings.catch_warnings[Any]] = []  # one while threads record
_THREADS = [0]  # that record


@contextmanager
def recorded_warnings() -> Iterator[list[str]]:
    """Record the texts of the warnings of this thread during a block; those of other threads are shown as before."""
    texts: list[str] = []
    before, _OF_THREAD.texts = _OF_THREAD.texts, texts
    _begin()
    try:
        yield texts
    finally:
        _OF_THREAD.texts = before
        _end()


def _begin() -> None:
    with _LOCK:
        _THREADS[0] += 1
        if _THREADS[0] > 1:
            return
        block = warnings.catch_warnings()
        block.__enter__()
        _BLOCKS.append(block)
        show = warnings.showwarning

        def record(message: Warning | str, *arguments: Any, **options: Any) -> None:
            if _OF_THREAD.texts is None:
                show(message, *arguments, **options)
            else:
                _OF_THREAD.texts.append(str(message))

        warnings.simplefilter("always")
        warnings.showwarning = record


def _end() -> None:
    with _LOCK:
        _THREADS[0] -= 1
        if not _THREADS[0]:
            _BLOCKS.pop().__exit__(None, None, None)
