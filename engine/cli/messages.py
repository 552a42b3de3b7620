"""What a command reports beside its result: notices, the log of the library, progress, and its last lines."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TextIO

from engine.audio.metrics import RealTime
from engine.voice import Voice

LIBRARY, NOTICES = logging.getLogger("engine"), logging.getLogger("engine.cli")
LEVELS = (logging.WARNING, logging.INFO, logging.DEBUG)  # of the library's log, by the number of -v


def say(message: str) -> None:
    """Print one line on stderr.

    Args:
        message: the text; line breaks become spaces, and characters that cannot be printed their escapes.
    """
    if sys.stderr is not None:
        with suppress(OSError):  # stderr is closed
            print("engine: " + _printable(" ".join(message.splitlines())), file=sys.stderr)


def notice(message: str) -> None:
    """Print one line on stderr, unless --quiet was passed.

    Args:
        message: the text; line breaks become spaces.
    """
    NOTICES.info("%s", message)


def add_messages(parser: argparse.ArgumentParser, *, quiet: bool = False, json: bool = False) -> None:
    """Add the options that select what a command reports.

    Args:
        parser: of a command.
        quiet: whether the command has notices, a progress bar or last lines, which --quiet omits.
        json: whether the command can print its result as JSON.
    """
    group = parser.add_argument_group("messages")
    if json:
        group.add_argument("--json", action="store_true", help="print the result on stdout as one JSON object")
    extent = group.add_mutually_exclusive_group()
    if quiet:
        text = "no notices, progress bar or last lines; warnings and errors remain"
        extent.add_argument("-q", "--quiet", action="store_true", help=text)
    text = "log on stderr what is loaded and chosen, without a progress bar; -vv for details"
    extent.add_argument("-v", "--verbose", action="count", default=0, help=text)


@contextmanager
def logging_to_stderr(arguments: argparse.Namespace) -> Iterator[None]:
    """Print notices and the log of the library on stderr inside a `with` block.

    Args:
        arguments: the parsed command line.
    """
    handler, levels = _Lines(), [(logger, logger.level) for logger in (LIBRARY, NOTICES)]
    LIBRARY.addHandler(handler)
    LIBRARY.setLevel(LEVELS[min(arguments.verbose, len(LEVELS) - 1)])
    NOTICES.setLevel(logging.WARNING if _is_quiet(arguments) else logging.INFO)
    try:
        yield
    finally:
        LIBRARY.removeHandler(handler)
        for logger, level in levels:
            logger.setLevel(level)


def progress_stream(arguments: argparse.Namespace) -> TextIO | None:
    """Return the stream of the progress bar: stderr, None with --quiet or -v.

    Args:
        arguments: the parsed command line.
    """
    return None if _is_quiet(arguments) or arguments.verbose else sys.stderr


def print_result(arguments: argparse.Namespace, lines: Sequence[str], result: Mapping[str, Any]) -> None:
    """Print the result as JSON with --json, else as lines; no lines with --quiet.

    Args:
        arguments: the parsed command line.
        lines: the last lines of the command.
        result: the JSON object.
    """
    if getattr(arguments, "json", False):
        print(json.dumps(result, allow_nan=False))
    elif not _is_quiet(arguments):
        print("\n".join(lines))


def audio_result(voice: Voice, files: Sequence[object], real_time: RealTime) -> dict[str, Any]:
    """Return the JSON object of a command that writes audio.

    Args:
        voice: the network.
        files: the written files.
        real_time: the speed.
    """
    ratios = (real_time.rtf, real_time.times) if real_time.audio_seconds and real_time.work_seconds else (None, None)
    return {
        "files": [str(file) for file in files],
        "sample_rate": voice.sample_rate,
        "audio_seconds": real_time.audio_seconds,
        "work_seconds": real_time.work_seconds,
        "rtf": ratios[0],
        "times_real_time": ratios[1],
        "device": voice.choice.device,
        "isa": voice.choice.isa,
        "precision": voice.choice.precision,
        "threads": voice.threads,
    }


def _printable(text: str) -> str:
    """Return a text whose control characters, such as those in the name of a file, do not reach the terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _is_quiet(arguments: argparse.Namespace) -> bool:
    return bool(getattr(arguments, "quiet", False))


class _Lines(logging.Handler):
    """A handler that prints every record as a line of the program."""

    def emit(self, record: logging.LogRecord) -> None:
        prefix = f"{record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
        say(prefix + record.getMessage())
