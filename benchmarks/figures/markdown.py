"""Markdown tables and lists."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]], align: str = "l") -> str:
    """Return a table.

    Args:
        head: titles of the columns.
        rows: cells in the order of the columns.
        align: "l" or "r" for each column, from the left; columns beyond it are aligned right.
    """
    rule = "".join("---:|" if letter == "r" else "---|" for letter in align.ljust(len(head), "r"))
    return "\n".join([_line(head), f"|{rule}", *map(_line, rows)])


def bullets(sentences: Iterable[str]) -> str:
    """Return a list of sentences."""
    return "\n".join(f"- {sentence}" for sentence in sentences)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
