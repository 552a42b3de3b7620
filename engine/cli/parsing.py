"""Parsing of command lines: the commands, the types of their options, and one style of errors."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

# The exit status of an error: of any other kind, in the input, and for lack of a device, a precision or an extra.
FAILED, BAD_INPUT, UNAVAILABLE = 1, 2, 3

Run = Callable[[argparse.Namespace], int | None]  # returns the exit status, None for success


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line: the option, the expected value and the value received."""

    def error(self, message: str) -> NoReturn:
        """Print one line and exit.

        Args:
            message: the error in the words of argparse.
        """
        text = re.sub(r"(^|\bwith )argument ", r"\1", message)
        self.exit(BAD_INPUT, f"engine: error: {text}; see '{self.prog} --help'\n")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        # Replaces argparse's text, which differs between the versions of Python.
        if action.choices is not None and value not in action.choices:
            expected = ", ".join(map(str, action.choices))
            raise argparse.ArgumentError(action, f"expected one of {expected}, got {value!r:.80}")


@dataclass(frozen=True)
class Commands:
    """The commands of a program.

    Attributes:
        subparsers: the object that adds a parser per command.
    """

    subparsers: Any  # argparse's class is private

    def add(
        self,
        name: str,
        run: Run,
        *,
        usage: str,
        summary: str,
        description: str,
        examples: str,
        names: Mapping[str, str] | None = None,
    ) -> Parser:
        """Add a command.

        Args:
            name: the word after `engine`.
            run: runs the command with the parsed arguments.
            usage: the arguments in one line, "IN -o OUT.wav [OPTION ...]".
            summary: a verb phrase for the list of commands.
            description: paragraphs of at most 79 columns.
            examples: command lines, one a line.
            names: arguments of the library that have another name on the command line, see `engine.cli.wording`.

        Returns:
            The command's parser, which has no options yet.
        """
        parser: Parser = self.subparsers.add_parser(
            name,
            usage=f"%(prog)s {usage}".rstrip(),
            help=summary,
            description=f"{summary[0].upper()}{summary[1:]}.\n\n{description}".rstrip(),
            epilog="examples:\n" + "".join(f"  {line}\n" for line in examples.splitlines()),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        parser.set_defaults(run=run, parser=parser, names=names or {})
        return parser


def path(text: str) -> Path:
    """Convert the text of a path; an empty one, as of an unset variable, would be the working directory.

    Args:
        text: one word of the command line.
    """
    if not text:
        raise argparse.ArgumentTypeError("expected a path, got an empty text")
    return Path(text)


def integer(text: str) -> int:
    """Convert the text of an option to an integer.

    Args:
        text: one word of the command line.
    """
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected an integer, got {text!r:.80}") from None


def number(text: str) -> float:
    """Convert the text of an option to a number.

    Args:
        text: one word of the command line.
    """
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a number, got {text!r:.80}") from None


def largest_gain(text: str) -> float:
    """Convert the text of --match-mel.

    Args:
        text: a number of at least 1, or "inf".
    """
    value = number(text)
    if not value >= 1.0:
        raise argparse.ArgumentTypeError(f"expected a number of at least 1, or inf, got {text!r:.80}")
    return value


def steps(text: str) -> int | str:
    """Convert the text of --steps.

    Args:
        text: "fast", "full", or a number of steps.
    """
    try:
        return text if text in ("fast", "full") else int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected fast, full or a number of steps, got {text!r:.80}") from None
