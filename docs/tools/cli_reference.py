"""Write docs/cli.md from the parsers of the command line: python -m docs.tools.cli_reference.

tests/documents/test_cli_reference.py fails when the page is stale. The text is built from the parsers' actions and not
from `format_help`, whose layout depends on the terminal and on the version of Python.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

from engine.cli.main import CLOSED_PIPE, INTERRUPTED, build_parser
from engine.cli.parsing import BAD_INPUT, FAILED, UNAVAILABLE

PAGE = Path(__file__).resolve().parents[1] / "cli.md"
NOTICE = "<!-- Written by `python -m docs.tools.cli_reference` from the parsers. Do not edit. -->"
STATUS = {
    0: "success, or help",
    FAILED: "another error, such as a full disk or too little memory",
    BAD_INPUT: "bad input: a wrong option, argument, file or checkpoint",
    UNAVAILABLE: "a device, instruction set, precision or extra is not available on this machine",
    129: "ended by SIGHUP: the terminal was closed",
    INTERRUPTED: "interrupted by Ctrl-C",
    CLOSED_PIPE: "stdout was closed before the end",
    143: "ended by SIGTERM",
}


def text() -> str:
    """Return the text of docs/cli.md."""
    program = build_parser()
    commands = _commands(program)
    parts = [
        f"{NOTICE}\n# Command-line reference",
        "The command is `engine`; `python -m engine` is the same. `engine COMMAND --help` shows the text of this page "
        "in the terminal. `engine --version` prints the version.",
        _table(
            ("command", "purpose"),
            [(f"[`engine {name}`](#engine-{name})", summary) for name, summary, _ in commands],
        ),
        *_indented(_examples(program)),
    ]
    for name, _, parser in commands:
        parts += [f"## engine {name}", *_command(parser)]
    parts += [
        "## Files, errors and exit status",
        "An output file appears under its name only when it is complete. After an error or a signal there is no new "
        "file, and a file of that name is unchanged. A file that is replaced keeps its permissions. Only a terminal "
        "shows a progress bar.",
        "An error is one line on stderr. It says what was expected, what was received and what to do. Warnings, "
        "notices and the log of `-v` go to stderr too. stdout has the result alone.",
        "With `--json` the result is one JSON object in one line, and after an error stdout is empty. Later versions "
        "may add keys to the objects. They do not rename or remove keys. `engine bench --json` takes a file name.",
        _table(("exit status", "meaning"), [(str(status), meaning) for status, meaning in STATUS.items()]),
    ]
    return "\n\n".join(parts) + "\n"


def _commands(program: argparse.ArgumentParser) -> list[tuple[str, str, argparse.ArgumentParser]]:
    """Return (name, summary, parser) of every command."""
    [action] = [action for action in program._actions if isinstance(action, argparse._SubParsersAction)]
    summaries = {choice.dest: str(choice.help) for choice in action._choices_actions}
    return [(name, summaries[name], parser) for name, parser in action.choices.items()]


def _command(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Yield the paragraphs on one command."""
    yield f"```text\n{_usage(parser)}\n```"
    for paragraph in str(parser.description).split("\n\n"):
        yield from _paragraph(paragraph)
    for group in parser._action_groups:
        actions = [action for action in group._group_actions if not isinstance(action, argparse._HelpAction)]
        if actions:
            yield f"**{str(group.title).capitalize()}**"
            yield _table(("argument", "meaning", "default"), [_row(parser, action) for action in actions])
    yield "**Examples**"
    yield from _indented(_examples(parser))


def _usage(parser: argparse.ArgumentParser) -> str:
    return str(parser.usage).replace("%(prog)s", parser.prog)


def _paragraph(text: str) -> Iterator[str]:
    """Yield a paragraph of a description; its lines that begin with a space become literal blocks."""
    for literal, lines in _runs(text.strip("\n").splitlines()):
        yield "```text\n" + "\n".join(line.strip() for line in lines) + "\n```" if literal else _code("\n".join(lines))


def _runs(lines: list[str]) -> Iterator[tuple[bool, list[str]]]:
    run: list[str] = []
    for line in lines:
        if run and run[-1].startswith(" ") != line.startswith(" "):
            yield run[-1].startswith(" "), run
            run = []
        run.append(line)
    if run:
        yield run[-1].startswith(" "), run


def _row(parser: argparse.ArgumentParser, action: argparse.Action) -> tuple[str, str, str]:
    """Return the cells of one argument."""
    value = str(action.metavar or "")
    value = f"{value} [{value} ...]" if action.nargs == "+" else value
    name = f"{', '.join(action.option_strings)} {value if action.nargs != 0 else ''}".strip()
    meaning, _, default = str(action.help).partition(" (default: ")
    others = [
        option
        for group in parser._mutually_exclusive_groups
        if action in group._group_actions
        for other in group._group_actions
        if other is not action
        for option in other.option_strings
    ]
    meaning += f"; not with {', '.join(others)}" * bool(others) + "; required" * (
        action.required and bool(action.option_strings)
    )
    return f"`{name}`", _code(meaning), default.removesuffix(")")


def _code(text: str) -> str:
    """Set commands and flags of a text in code spans."""
    text = re.sub(r"'(engine\b[^']*)'", lambda match: f"`{' '.join(match[1].split())}`", text)
    return re.sub(r"(?<![\w`-])--[a-z][a-z-]*\b(?![^`\n]*`)", r"`\g<0>`", text)


def _examples(parser: argparse.ArgumentParser) -> list[str]:
    """Return the command lines in the epilog of a parser."""
    block = str(parser.epilog).partition("examples:\n")[2].partition("\n\n")[0]
    return [line.strip() for line in block.splitlines()]


def _indented(lines: list[str]) -> Iterator[str]:
    yield "\n".join(f"    {line}" for line in lines)


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(re.sub(r"\|", r"\\|", cell) for cell in line) + " |" for line in lines)


if __name__ == "__main__":
    PAGE.write_text(text())
    print(PAGE.name)
