"""Fewer steps beside the fast schedule of the same network, alternating: rows, and the lines of the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.committed import Row
from benchmarks.cpu.compare import Timing
from engine.audio.metrics import RealTime
from engine.cli.bench.figures import quantiles


def rows(
    case: str,
    precision: str,
    timings: Mapping[int, Mapping[int, Timing]],
    work_per_step: float,
    audio_seconds: float,
) -> list[Row]:
    """Return a row per number of steps.

    Args:
        case: length of the audio in words.
        precision: precision of the arithmetic.
        timings: by number of steps and round, all of the same rounds; the greatest number is the reference.
        work_per_step: multiply-accumulates of the residual layers in one step.
        audio_seconds: seconds of audio from one call.

    Returns:
        Rows from the greatest number of steps to the smallest. "times_most" is the speed relative to the greatest, as
        quantiles of the ratios within a round.
    """
    most = timings[max(timings)]
    table = []
    for steps in sorted(timings, reverse=True):
        calls = timings[steps]
        peaks = [(timing.seconds, timing.peak) for timing in calls.values() if timing.peak]
        table.append(
            {
                "case": case,
                "contender": precision,
                "steps": steps,
                "rounds": len(calls),
                "audio_seconds": audio_seconds * len(calls),
                "work_seconds": sum(timing.seconds for timing in calls.values()),
                "seconds": quantiles([timing.seconds for timing in calls.values()]),
                "peak_gflops": quantiles([2e-9 * peak for _, peak in peaks]) if peaks else None,
                "share_of_peak": (
                    quantiles([steps * work_per_step / seconds / peak for seconds, peak in peaks]) if peaks else None
                ),
                "times_most": quantiles([most[number].seconds / calls[number].seconds for number in calls]),
            }
        )
    return table


def lines(table: Sequence[Row]) -> list[str]:
    """Return the lines for the terminal."""
    if not table:
        return []
    most = max(row["steps"] for row in table)
    output = [f"alternating; x {most} steps: speed relative to {most} steps in the same round (median)"]
    output.append(_line("audio", "precision", "steps", "seconds", "x real time", "share", f"x {most} steps"))
    return output + [_line(*cells(row)) for row in table]


def cells(row: Row) -> tuple[str, ...]:
    """Return the cells of a row: audio, precision, steps, seconds, x real time, share of peak, x most steps."""
    return (
        row["case"],
        row["contender"],
        f"{row['steps']}",
        f"{row['seconds']['p50']:.3f}",
        f"{RealTime(row['audio_seconds'], row['work_seconds']).times:.2f}",
        f"{row['share_of_peak']['p50']:.0%}" if row["share_of_peak"] else "-",
        f"{row['times_most']['p50']:.2f}",
    )


def _line(*texts: str) -> str:
    return f"  {texts[0]:<8}{texts[1]:<10}{texts[2]:>6}" + "".join(f"{text:>13}" for text in texts[3:])
