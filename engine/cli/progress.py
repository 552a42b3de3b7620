"""A progress bar on a terminal, and none in a pipe or a file."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

INTERVAL = 0.1  # seconds between two drawings, so that drawing takes no time from the work
MAX_WIDTH = 30  # columns of the bar: with times of hours beside it, the line has less than 80


@contextmanager
def progress_bar(
    stream: TextIO | None, clock: Callable[[], float] = time.monotonic
) -> Iterator[Callable[[float], None] | None]:
    """Yield a function that draws the fraction done; None unless the stream is a terminal.

    The bar is one line. It is erased at the end and on every exception, so that messages begin on an empty line.

    Args:
        stream: stderr, None if it is closed.
        clock: the time in seconds.
    """
    if stream is None or not stream.isatty():
        yield None
        return
    begin, drawn, width = clock(), float("-inf"), 0

    def draw(fraction: float) -> None:
        nonlocal drawn, width
        now = clock()
        if now - drawn < INTERVAL:
            return
        line = _line(fraction, now - begin, shutil.get_terminal_size().columns)
        stream.write("\r" + line.ljust(width))
        stream.flush()
        drawn, width = now, len(line)

    try:
        yield draw
    finally:
        stream.write("\r" + " " * width + "\r")
        stream.flush()


def _line(fraction: float, elapsed: float, columns: int) -> str:
    text = f" {100 * fraction:3.0f} %, {_time(elapsed)} elapsed"
    if fraction > 0:
        text += f", {_time(elapsed / fraction - elapsed)} remaining"
    # A character in the last column makes a terminal wrap; the next drawing would begin one line lower.
    width = min(MAX_WIDTH, columns - 1 - len(text) - 2)
    if width < 4:
        return text[1 : max(columns, 1)]
    done = int(width * fraction)
    return f"[{'#' * done}{'.' * (width - done)}]{text}"


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
