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

    Args:
        stream: stderr, None if it is closed.
        clock: the time in seconds.
    """
    begin = clock()
    with changing_line(stream, clock) as draw:
        if draw is None:
            yield None
        else:
            yield lambda fraction: draw(lambda columns: _line(fraction, clock() - begin, columns))


@contextmanager
def changing_line(
    stream: TextIO | None, clock: Callable[[], float] = time.monotonic
) -> Iterator[Callable[[Callable[[int], str]], None] | None]:
    """Yield a function that draws a line in place of the one before; None unless the stream is a terminal.

    The line is erased at the end and on every exception, so that messages begin on an empty line.

    Args:
        stream: stderr, None if it is closed.
        clock: the time in seconds.

    Yields:
        A function that is called with a function from the columns of the terminal to the line. It does nothing if the
        last drawing was less than `INTERVAL` ago.
    """
    if stream is None or not stream.isatty():
        yield None
        return
    drawn, width = float("-inf"), 0

    def draw(line_of: Callable[[int], str]) -> None:
        nonlocal drawn, width
        now = clock()
        if now - drawn < INTERVAL:
            return
        line = line_of(shutil.get_terminal_size().columns)
        stream.write("\r" + line.ljust(width))
        stream.flush()
        drawn, width = now, len(line)

    try:
        yield draw
    finally:
        stream.write("\r" + " " * width + "\r")
        stream.flush()


def bar(fraction: float, text: str, columns: int) -> str:
    """Return a bar and a text in one line, the text alone where there is no room.

    Args:
        fraction: of the bar that is filled, 0 to 1.
        text: begins with a space.
        columns: of the terminal.
    """
    # A character in the last column makes a terminal wrap; the next drawing would begin one line lower.
    width = min(MAX_WIDTH, columns - 1 - len(text) - 2)
    if width < 4:
        return text[1 : max(columns, 1)]
    done = int(width * fraction)
    return f"[{'#' * done}{'.' * (width - done)}]{text}"


def _line(fraction: float, elapsed: float, columns: int) -> str:
    text = f" {100 * fraction:3.0f} %, {clock_time(elapsed)} elapsed"
    if fraction > 0:
        text += f", {clock_time(elapsed / fraction - elapsed)} remaining"
    return bar(fraction, text, columns)


def clock_time(seconds: float) -> str:
    """Return a time as minutes and seconds, or hours, minutes and seconds: "0:07", "1:23:45".

    Args:
        seconds: the time.
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
