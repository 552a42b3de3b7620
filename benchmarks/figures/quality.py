"""The measured quality of the bundled networks, as their cards show it."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.committed import Row, load
from benchmarks.figures.markdown import table


def voice(rows: Sequence[Row]) -> str:
    """Return a table of PESQ and STOI from the rows of `benchmarks.quality.voice`."""
    head = ("clips", "n", "steps", "precision", "PESQ-WB", "STOI", f"SNR against {rows[0]['precision']}")
    cells = [
        (
            row["clips"],
            f"{row['count']}",
            f"{row['steps']}",
            row["precision"],
            f"{row['pesq_wb']:.3f}",
            f"{row['stoi']:.3f}",
            "" if row["snr_db"] is None else f"{row['snr_db']:.1f} dB",
        )
        for row in rows
    ]
    return table(head, cells, align="lrll")


def digits(rows: Sequence[Row]) -> str:
    """Return a table of accuracy, distance and novelty from the rows of `benchmarks.quality.digits`."""
    head = (
        *("clips", "n", "classifier accuracy", "Frechet distance", "inception score", "spread within a digit"),
        *("correlation with the nearest training clip, median / largest", "copies"),
    )
    cells = [
        (
            row["name"],
            f"{row['clips']}",
            "" if row["accuracy"] is None else f"{100 * row['accuracy']:.1f} %",
            f"{row['frechet']:.2f}",
            f"{row['inception_score']:.2f}",
            f"{row['spread']:.2f}",
            f"{row['resemblance_median']:.2f} / {row['resemblance_largest']:.2f}",
            f"{row['copies']}",
        )
        for row in rows
    ]
    return table(head, cells)


def samples(rows: Sequence[Row]) -> str:
    """Return a table of the clips in docs/samples from the rows of `benchmarks.quality.samples`."""
    cells = [
        (row["clip"], f"{row['pesq_wb']:.2f}", f"{row['stoi']:.3f}", f"{row['mel_error_db']:.1f} dB") for row in rows
    ]
    return table(("clip", "PESQ-WB", "STOI", "mel error"), cells)


def accuracy() -> str:
    """Return how many of 100 generated digits the classifier recognizes as their label: "94"."""
    [row] = [row for row in load("digits")["rows"] if row["name"].startswith("digits, ")]
    return f"{100 * row['accuracy']:.0f}"
