"""Messages of the library in the terms of the command line.

The library's messages have the form "argument: expected X, got Y; remedy", with names and calls of Python. `translate`
replaces an argument by its flag or by the file that the user passed, and a remedy in Python by the same remedy as a
command line:

    steps: expected ...                                 --steps: expected ...
    mel: expected shape ...                             mel.npy: expected shape ...
    precision: 'int8' needs ...; use precision='auto'   --precision int8 needs ...; use --precision auto
    ...; compute it with engine.mel(a, kind='lmnt')     ...; compute it with 'engine mel --kind lmnt'
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

Names = Mapping[str, Sequence[str]]

_PATH = re.compile(r"path: (['\"])(.*?)\1: ")
_SUBJECT = re.compile(r"(?P<name>\w+)(?:\[(?P<index>\d+)\])?(?P<piece>, piece \d+)?: ")
_VALUE = re.compile(r"'([\w:.+-]+)' ")
_CALL = re.compile(r"\b(?:engine\.)?(vocode|generate|denoise|interpolate|mel)\(([^()]*)\)")
_ASSIGNMENT = re.compile(r"\b(\w+)=('[^']*'|\"[^\"]*\"|[\d.]+)?((?: or '[\w:.+-]+')*)")
_PYTHON_ONLY = re.compile(r", [^,;]*\(in Python\)[^,;]*")
_TRANSPOSED = re.compile(r"\bpass \w+(?:\[\d+\])?\.(?:m?T\b|transpose\([^()]*\))")
_LEAVE_OUT = re.compile(r"\bleave (\w+) out\b")


def names_of(arguments: argparse.Namespace) -> Names:
    """Return what the user typed for each argument of the library: a flag, or the names of files.

    The flags come from the command's parser. `Commands.add` takes the other names: each is the destination of files on
    the command line, or the text to show.

    Args:
        arguments: the parsed command line.
    """
    names: dict[str, Sequence[str]] = {}
    for action in arguments.parser._actions:
        if action.option_strings:
            names[action.dest] = [action.option_strings[-1]]
        elif action.type is Path:
            names[action.dest] = _values(arguments, action.dest)
        else:
            names[action.dest] = [str(action.metavar)]
    for name, source in arguments.names.items():
        names[name] = _values(arguments, source) if source in arguments else [source]
    return names


def translate(message: str, names: Names) -> str:
    """Return a message of the library in the terms of the command line.

    Args:
        message: the text of an error or a warning.
        names: flags and files by the library's argument, from `names_of`.
    """
    message = _PATH.sub(r"\2: ", message, count=1) if _PATH.match(message) else message
    subject, rest = _split_subject(message, names)
    rest = _CALL.sub(lambda match: _command_of(match[1], match[2]), _PYTHON_ONLY.sub("", rest))
    rest = _ASSIGNMENT.sub(lambda match: _flag_of(match, names), rest)
    rest = _LEAVE_OUT.sub(lambda match: f"leave {names.get(match[1], [match[1]])[0]} out", rest)
    rest = _TRANSPOSED.sub("transpose it", rest).replace("got None", "got none")
    if subject.startswith("-"):
        # "--steps: expected one of --steps 6, ..." repeats its flag; a remedy needs it.
        expected, separator, remedy = rest.partition("; ")
        rest = expected.replace(f"{subject} ", "") + separator + remedy
        rest = rest.replace("expected None", f"expected no {subject}")
        if value := _VALUE.match(rest):
            return f"{subject} {value[1]} {rest[value.end() :]}"
    return f"{subject}: {rest}" if subject else rest


def _split_subject(message: str, names: Names) -> tuple[str, str]:
    """Return the flag or the file that a message is about, "" for none, and the rest of the message."""
    subject = ""
    while (match := _SUBJECT.match(message)) and names.get(match["name"]):
        values = names[match["name"]]
        index = int(match["index"] or 0)
        name = values[index] if index < len(values) else values[0]
        # A message about a piece repeats its subject: "mels, piece 3: mel: expected ...".
        subject = subject if subject.startswith(name) else f"{name}{match['piece'] or ''}"
        message = message[match.end() :]
    return subject, message


def _command_of(name: str, arguments: str) -> str:
    options = re.findall(r"\b(\w+)=['\"]?([\w.]+)", arguments)
    return f"'{' '.join(['engine', name, *(f'--{option} {value}' for option, value in options)])}'"


def _flag_of(assignment: re.Match[str], names: Names) -> str:
    name, value, alternatives = assignment.groups(default="")
    flag = names.get(name, [""])[0]
    if not flag.startswith("-"):
        return assignment[0]
    return f"{flag} {value.strip(chr(39) + chr(34))}".rstrip() + alternatives.replace("'", "")


def _values(arguments: argparse.Namespace, destination: str) -> list[str]:
    value = getattr(arguments, destination)
    values = value if isinstance(value, list) else [] if value is None else [value]
    return ["stdin" if str(item) == "-" else str(item) for item in values]
