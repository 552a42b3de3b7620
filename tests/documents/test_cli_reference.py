"""docs/cli.md is that of the parsers, under every width of the terminal, and documents every option."""

from __future__ import annotations

import argparse
import re

import pytest

from docs.tools import cli_reference
from engine.cli.main import build_parser


def test_the_page_is_fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    for columns in ("40", "200"):
        monkeypatch.setenv("COLUMNS", columns)
        assert cli_reference.PAGE.read_text() == cli_reference.text(), "run python -m docs.tools.cli_reference"


def test_every_option_is_in_the_section_of_its_command() -> None:
    sections = dict(re.findall(r"^## engine ([\w-]+)\n(.*?)(?=^## )", cli_reference.text(), re.DOTALL | re.MULTILINE))
    commands = {name: parser for name, _, parser in cli_reference._commands(build_parser())}
    assert set(sections) == set(commands) and len(commands) > 8
    for name, parser in commands.items():
        for action in parser._actions:
            if not isinstance(action, argparse._HelpAction):
                assert (
                    re.search(rf"^\| `[^`]*{re.escape(action.option_strings[-1])}\b", sections[name], re.M)
                    if (action.option_strings)
                    else f"| `{action.metavar}` |" in sections[name]
                ), f"{name} {action.dest}"


def test_the_notice_of_an_error_is_that_of_the_program() -> None:
    assert set(cli_reference.STATUS) == {0, 1, 2, 3, 129, 130, 141, 143}
