"""Speed and memory as the work grows."""

from __future__ import annotations

from typing import Any

from benchmarks.committed import Results, caveats, load
from benchmarks.figures.markdown import bullets, table

CURVES = "epyc-zen4-2-cores-curves"
MIB = 2**20
AXES = {
    "length": "seconds of audio",
    "batch": "items of 0.5 s",
    "threads": "threads",
    "steps": "denoising steps",
    "channels": "residual channels",
}
HEAD = ("x real time", "seconds per call", "share of peak", "memory, MiB")


def growth() -> str:
    """Return one table per axis, and how they were measured."""
    results = load(CURVES)
    return "\n\n".join([*(_axis(results, axis) for axis in AXES), _caption(results)])


def batches() -> str:
    """Return the range of the speed over the lengths and batches, to stand within a sentence."""
    points = [point for point in load(CURVES)["curves"] if point["axis"] in ("length", "batch")]
    speeds = [1 / point["rtf"]["p50"] for point in points]
    return f"{min(speeds):.1f}x and {max(speeds):.1f}x real time"


def growth_of(axis: str) -> str:
    """Return the table of one axis, and how it was measured."""
    results = load(CURVES)
    return f"{_axis(results, axis)}\n\n{_caption(results)}"


def _axis(results: Results, axis: str) -> str:
    points = sorted((point for point in results["curves"] if point["axis"] == axis), key=lambda point: point["value"])
    assert len({point["precision"] for point in points}) == 1
    if axis == "steps":
        return table((AXES[axis], *HEAD), [_cells(point) for point in points], align="")
    rows = [(first, f"{point['steps']}", *rest) for point in points for first, *rest in [_cells(point)]]
    return table((AXES[axis], "steps", *HEAD), rows, align="")


def _cells(point: dict[str, Any]) -> tuple[str, ...]:
    return (
        f"{point['value']:g}",
        f"{1 / point['rtf']['p50']:.1f}" if point["rtf"]["p50"] < 1 else f"{1 / point['rtf']['p50']:.2f}",
        f"{point['seconds']['p50']:.2f}" if point["seconds"]["p50"] < 10 else f"{point['seconds']['p50']:.0f}",
        f"{point['share_of_peak']['p50']:.0%}",
        f"{point['memory_bytes'] / MIB:.0f}",
    )


def _caption(results: Results) -> str:
    machine, precision = results["machine"], results["curves"][0]["precision"]
    notes = [
        f"Measured by `engine bench --thorough` on {results['threads']} threads of {machine['cpu']} (Zen 4), "
        f"{precision}, {results['date'][:10]}, commit {results['commit']} "
        f"([results](benchmarks/results/{CURVES}.json)).",
        "Memory is the growth of the process during the call, audio included.",
    ]
    return bullets([*notes, *(caveat.sentence for caveat in caveats(results))])
