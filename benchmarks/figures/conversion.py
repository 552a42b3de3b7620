"""The cost of converting mels to another kind, as docs/front-ends.md shows it."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.committed import Row, load
from benchmarks.figures import markdown
from benchmarks.figures.quality import spread

RESULTS = "mel-conversion"


def committed() -> str:
    """Return the table of the committed results."""
    content = load(RESULTS)
    return f"{table(content['rows'])}\n\nMeans of {len(content['clips'])} clips, with 95 % intervals."


def table(rows: Sequence[Row]) -> str:
    """Return the errors of each mel and the scores of its audio.

    Args:
        rows: of `benchmarks.quality.conversion`.
    """
    head = ("mels", "error below 8 kHz", "above", "PESQ-WB", "STOI", "predicted MOS")
    cells = [
        (
            row["mels"],
            f"{row['below_8_khz_db']:.1f} dB",
            f"{row['above_8_khz_db']:.1f} dB",
            spread(row["pesq_wb"], 2),
            spread(row["stoi"], 3),
            spread(row["mos"], 2),
        )
        for row in rows
    ]
    return markdown.table(head, cells)
