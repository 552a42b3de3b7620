"""The predicted speed on GPUs."""

from __future__ import annotations

from typing import Any

from benchmarks.committed import Results, load
from benchmarks.figures.markdown import bullets, table

PREDICTION, MEASUREMENT = "gpu-predicted", "h100"
HEAD = ("GPU", "network", "audio", "predicted ms", "x real time", "floor ms", "feed ms", "launch gaps", "bound by")


def prediction(results: Results | None = None) -> str:
    """Return the predicted calls beside their lower bounds; of the committed prediction if not of another."""
    rows = [_cells(row) for row in (results or load(PREDICTION))["rows"]]
    return table(HEAD, rows, align="lllrrrrrl")


def measured() -> str:
    """Return the prediction beside the measurement on the GPU that has one."""
    predicted = {
        (row["items"], row["seconds"]): 1e3 * row["predicted_seconds"]
        for row in load(PREDICTION)["rows"]
        if (row["gpu"], row["network"], row["precision"]) == ("H100", "BASE", "fp16")
    }
    rows = []
    for row in load(MEASUREMENT)["gpu"]:
        if row["precision"] == "fp16":
            expected, median = predicted[row["items"], row["seconds"]], 1e3 * row["measured_seconds"]["p50"]
            audio = f"{row['items']} x {row['seconds']:g} s"
            rows.append((audio, f"{expected:.2f}", f"{median:.2f}", f"{median / expected:.2f}"))
    return table(("audio", "predicted ms", "measured ms", "ratio"), rows)


def groups(results: Results | None = None) -> str:
    """Return the predicted steps of groups of layers, beside the predicted calls with Triton.

    The floor is the longer one of the layers' arithmetic and of the shared memory that feeds it.
    """
    prediction = results or load(PREDICTION)
    triton = {
        (row["gpu"], row["items"], row["seconds"]): 1e3 * row["predicted_seconds"]
        for row in prediction["rows"]
        if row["network"] == "BASE"
    }
    rows = []
    for row in prediction["groups"]:
        predicted = 1e3 * row["predicted_seconds"]
        floor = 1e3 * max(row["floor_arithmetic_seconds"], row["floor_feed_seconds"])
        audio = f"{row['items']} x {row['seconds']:g} s"
        before = triton[row["gpu"], row["items"], row["seconds"]]
        times = f"{predicted:.2f}", f"{before:.2f}", f"{floor:.2f}", f"{floor / predicted:.0%}"
        rows.append((row["gpu"], row["isa"], audio, *times, row["bound"]))
    head = ("GPU", "isa", "audio", "groups ms", "Triton ms", "floor ms", "floor / groups", "bound by")
    return table(head, rows, align="lllrrrrl")


def validation(results: Results | None = None) -> str:
    """Return the model's rates of two programs whose rates are published."""
    rows = [
        (row["what"], row["gpu"], f"{row['predicted']:.3g} {row['unit']}", f"{row['published']:g} {row['unit']}")
        for row in (results or load(PREDICTION))["validation"]
    ]
    return table(("program", "GPU", "predicted", "published"), rows, align="ll")


def paper(results: Results | None = None) -> str:
    """Return the paper's own measurements."""
    rows = [(row["what"], row["gpu"], f"{row['times_real_time']}x") for row in (results or load(PREDICTION))["paper"]]
    return table(("network", "GPU", "x real time, measured by the paper"), rows, align="ll")


def assumptions(results: Results | None = None) -> str:
    """Return the model's assumptions with their sources."""
    rows = (results or load(PREDICTION))["assumptions"]
    return bullets(f"`{row['name']}` = {row['value']:g}: {row['source']}." for row in rows)


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    floor = 1e3 * max(row["floor_arithmetic_seconds"], row["floor_conditioner_seconds"])
    return (
        row["gpu"],
        row["network"],
        f"{row['items']} x {row['seconds']:g} s",
        f"{1e3 * row['predicted_seconds']:.2f}",
        f"{row['times_real_time']:.0f}",
        f"{floor:.2f}",
        f"{1e3 * row['floor_feed_seconds']:.2f}",
        f"{row['launch_share']:.0%}",
        row["bound"],
    )
