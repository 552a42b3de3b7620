"""The measured quality of the bundled networks, as their cards show it."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.committed import Row, load
from benchmarks.figures.markdown import table

NAMES = {"voice": "**the voice**"}


def voice(rows: Sequence[Row]) -> str:
    """Return a table of PESQ, STOI and MOS from the rows of `benchmarks.quality.voice`, those in fp32."""
    head = ("mels", "audio", "steps", "PESQ-WB", "STOI", "predicted MOS", "MOS above Griffin-Lim's")
    cells = [
        (
            row["mels"] or "-",
            NAMES.get(row["name"], row["name"]),
            f"{row['steps'] or '-'}",
            spread(row["pesq_wb"], 2),
            spread(row["stoi"], 3),
            spread(row["mos"], 2),
            spread(row["mos_gain"], 2, signed=True),
        )
        for row in rows
        if row["precision"] in (None, "fp32")
    ]
    return table(head, cells, align="lll")


def spread(interval: Row | None, digits: int, signed: bool = False) -> str:
    """Return a mean with its interval, "2.11 (2.01 to 2.20)"; "" for None, and the mean alone for one clip.

    Args:
        interval: has the keys mean, low and high, of which the latter two may be None.
        digits: after the point.
        signed: whether positive values get a sign.
    """
    if interval is None:
        return ""
    sign = "+" if signed else ""
    mean, low, high = (
        "" if interval[key] is None else f"{interval[key]:{sign}.{digits}f}" for key in ("mean", "low", "high")
    )
    return f"{mean} ({low} to {high})" if low else mean


def precisions(rows: Sequence[Row]) -> str:
    """Return a table that compares the precisions, in steps that several of them have."""
    voices = [row for row in rows if row["name"] == "voice"]
    several = {row["steps"] for row in voices if row["precision"] != voices[0]["precision"]}
    head = ("mels", "steps", "precision", "PESQ-WB", "STOI", "predicted MOS", f"SNR against {voices[0]['precision']}")
    cells = [
        (
            row["mels"],
            f"{row['steps']}",
            row["precision"],
            f"{row['pesq_wb']['mean']:.2f}",
            f"{row['stoi']['mean']:.3f}",
            f"{row['mos']['mean']:.2f}",
            "" if row["snr_db"] is None else f"{row['snr_db']:.1f} dB",
        )
        for row in voices
        if row["steps"] in several
    ]
    return table(head, cells, align="lll")


def figure(mels: str, name: str, judge: str, digits: int = 2, steps: int | str | None = None) -> str:
    """Return one mean of the bundled voice's quality: "2.11".

    Args:
        mels: "exact" or "blurred"; "" for recordings.
        name: of the row, "voice" for the voice in fp32.
        judge: "pesq_wb", "stoi" or "mos".
        digits: after the point.
        steps: of the voice.
    """
    [row] = [
        row
        for row in load("voice-quality")["rows"]
        if (row["mels"], row["name"], row["steps"]) == (mels, name, steps) and row["precision"] in (None, "fp32")
    ]
    return f"{row[judge]['mean']:.{digits}f}"


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
