"""Threads beside busy processes, as RELIABILITY.md shows them."""

from __future__ import annotations

from benchmarks.committed import load
from benchmarks.figures.markdown import table

FILE = "contention-zen4-2-cores"


def relative() -> str:
    """Return the time of a call by the number of threads, relative to that of one thread."""
    results = load(FILE)
    run, machine = results["contention"], results["machine"]
    threads = sorted({row["threads"] for row in run["rows"]})
    seconds = {(row["busy"], row["threads"]): row["seconds"] for row in run["rows"]}
    busy = sorted({row["busy"] for row in run["rows"]})
    rows = [
        (
            str(count),
            f"{seconds[count, 1]:.2f} s",
            *(f"{seconds[count, n] / seconds[count, 1]:.2f}" for n in threads[1:]),
        )
        for count in busy
    ]
    head = ("busy processes", "1 thread", *(f"{n} threads, relative" for n in threads[1:]))
    note = (
        f"BASE, fp32, 6 steps, {run['frames']} frames; alternating, medians of {run['rounds']} calls. "
        f"{machine['cpu']}, 2 cores, commit {results['commit']} ([results](benchmarks/results/{FILE}.json))."
    )
    return f"{table(head, rows)}\n\n{note}"
