"""The measured quality of the bundled networks, as their cards show it."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.committed import Results, Row, load
from benchmarks.figures.markdown import table

MELS = ("", "exact", "blurred")
NAMES = {"voice": "**the voice**"}


def merged(first: Results, second: Results) -> list[Row]:
    """Return the rows of two results of the same clips in one order; what both measured is taken from the first.

    Raises:
        ValueError: the clips differ.
    """
    if first["files"] != second["files"]:
        raise ValueError("expected results of the same clips")
    rows = {_method(row): row for results in (second, first) for row in results["rows"]}
    order = [_method(row) for results in (first, second) for row in results["rows"]]
    return [rows[method] for method in sorted(dict.fromkeys(order), key=lambda method: MELS.index(method[0]))]


def _method(row: Row) -> tuple[str, str, str, str]:
    return row["mels"], row["name"], str(row["steps"]), str(row["precision"])


def voice() -> str:
    """Return the table of the bundled voice, from both committed results."""
    return table_of_voice(merged(load("voice-quality"), load("voice-quality-full")))


def table_of_voice(rows: Sequence[Row]) -> str:
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
            *(
                "" if row[judge] is None else f"{row[judge]['mean']:.{digits}f}"
                for judge, digits in (("pesq_wb", 2), ("stoi", 3), ("mos", 2))
            ),
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
        *("clips", "n", "accuracy: network", "support vector machine", "the worse", "judges agree"),
        *("Frechet distance", "inception score", "spread within a digit"),
        *("correlation with the nearest training clip, median / largest", "copies"),
    )
    cells = [
        (
            row["name"],
            f"{row['clips']}",
            *(percent(row[key]) for key in ("accuracy", "accuracy_svm", "accuracy_worse", "agreement")),
            f"{row['frechet']:.2f}",
            f"{row['inception_score']:.2f}",
            f"{row['spread']:.2f}",
            f"{row['resemblance_median']:.2f} / {row['resemblance_largest']:.2f}",
            f"{row['copies']}",
        )
        for row in rows
    ]
    return table(head, cells)


def percent(share: float | None) -> str:
    """Return a share in percent, "" for None."""
    return "" if share is None else f"{100 * share:.1f} %"


def disagreements(rows: Sequence[Row]) -> str:
    """Return a table of the clips in which two judges hear different digits, for the rows with labels."""
    head = ("clips", "label", "heard by the network", "heard by the support vector machine", "number of clips")
    cells = [
        (row["name"], f"{case['label']}", f"{case['network']}", f"{case['svm']}", f"{case['clips']}")
        for row in rows
        for case in row["disagreements"]
        if case["label"] is not None
    ]
    return table(head, cells, align="lrrrr")


def samples(rows: Sequence[Row]) -> str:
    """Return a table of the clips in docs/samples from the rows of `benchmarks.quality.samples`."""
    cells = [
        (row["clip"], f"{row['pesq_wb']:.2f}", f"{row['stoi']:.3f}", f"{row['mel_error_db']:.1f} dB") for row in rows
    ]
    return table(("clip", "PESQ-WB", "STOI", "mel error"), cells)


def accuracy(judge: str = "accuracy_worse") -> str:
    """Return how many of 100 generated digits a judge hears as their label: "94".

    Args:
        judge: "accuracy" for the network, "accuracy_svm", or "accuracy_worse" for the worse of both.
    """
    [row] = [row for row in load("digits")["rows"] if row["name"].startswith("digits, ")]
    return f"{100 * row[judge]:.0f}"
