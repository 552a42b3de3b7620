"""Controlled pairs of trainings, as docs/training.md shows them."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.committed import Row
from benchmarks.figures import markdown

BASELINE = "plain"  # the variant that the others differ from in one setting
SCORES = {"pesq_wb": "PESQ-WB", "stoi": "STOI", "mos": "MOS", "log_mel_error": "log-mel error"}
DIGITS = {"pesq_wb": 3, "stoi": 3, "mos": 2, "log_mel_error": 3}


def table(rows: Sequence[Row]) -> str:
    """Return a table of the complete rounds of `benchmarks.quality.pairs`, exact mels / blurred mels, or a sentence.

    Args:
        rows: one per variant, number of steps and seed.
    """
    variants = list(dict.fromkeys(row["variant"] for row in rows))
    rounds = dict.fromkeys((row["steps"], row["seed"]) for row in rows)
    complete = [
        group
        for key in rounds
        if len(group := [row for row in rows if (row["steps"], row["seed"]) == key]) == len(variants)
    ]
    if not complete:
        return "No round is complete yet."
    names = [name for name in SCORES if any(name in row for group in complete for row in group)]
    head = ("steps", "seed", "variant", *(SCORES[name] for name in names))
    cells = [
        (f"{row['steps']:,}", f"{row['seed']}", row["variant"], *(_pair(row, name) for name in names))
        for group in complete
        for row in group
    ]
    return markdown.table(head, cells, align="rrl")


def _pair(row: Row, name: str) -> str:
    values = (row.get(name), row.get(f"{name}_blurred"))
    return " / ".join("" if value is None else f"{value:.{DIGITS[name]}f}" for value in values)
