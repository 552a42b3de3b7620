"""A tuning for few steps beside the weights that it began with, as docs/training.md shows it."""

from __future__ import annotations

from benchmarks.committed import Row, load
from benchmarks.figures import markdown

SCORES = {"pesq_wb": ("PESQ-WB", 2), "stoi": ("STOI", 3), "mos": ("MOS", 2), "log_mel_error": ("log-mel error", 3)}


def table() -> str:
    """Return the scores of both, exact mels / blurred mels, from the committed results."""
    content = load("voice-steps-cpu")
    head = ("steps", "weights", *(title for title, _ in SCORES.values()))
    cells = [(f"{row['steps']}", row["name"], *(_pair(row, name) for name in SCORES)) for row in content["rows"]]
    clips = len(content["clips"])
    return f"{markdown.table(head, cells, align='rl')}\n\n{clips} held-out clips, one seed; exact mels / blurred mels."


def _pair(row: Row, name: str) -> str:
    _, digits = SCORES[name]
    return f"{row[name]:.{digits}f} / {row[f'{name}_blurred']:.{digits}f}"
