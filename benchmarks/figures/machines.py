"""The measured CPUs in one table."""

from __future__ import annotations

from benchmarks.committed import (
    DISTURBED,
    EAGER,
    MACHINES,
    PRECISIONS,
    Row,
    caveats,
    comparison,
    decibels,
    fastest_baseline,
    load,
    speed,
    steps_of,
)
from benchmarks.figures.markdown import bullets, table
from engine.cli.bench.figures import disturbed

CASE = "4 s"
MARK = " \\*"  # of a disturbed run
HEAD = ("two cores of", "steps", *PRECISIONS, "fastest baseline", "PyTorch eager (LMNT's code)", "commit")


def machines() -> str:
    """Return the speeds of this engine and of the fastest baseline on each machine, and their caveats."""
    lines = []
    for machine in MACHINES.values():
        results = load(machine.file)
        rows = comparison(results, CASE)
        baseline = fastest_baseline(rows)
        cells = [
            f"[{machine.name}](benchmarks/results/{machine.file}.json)" + MARK * disturbed(results),
            " or ".join(f"{count}" for count in sorted({steps_of(row, results) for row in rows.values()})),
            *(_times(rows[precision]) if precision in rows else "-" for precision in PRECISIONS),
            f"{baseline['contender']} {_times(baseline)}, {decibels(baseline)}" if baseline else "-",
            _times(rows[EAGER]),
            results["commit"],
        ]
        lines.append(cells)
    caption = f"Speed relative to real time (higher is better), {CASE} of audio; all engines alternate."
    return "\n\n".join([caption, table(HEAD, lines, align="lrrrrrrl"), bullets(_notes())])


def _notes() -> list[str]:
    runs = {machine.name: load(machine.file) for machine in MACHINES.values()}
    rows = {name: comparison(results, CASE) for name, results in runs.items()}
    notes = ["dB: SNR of the baseline's audio against this engine's fp32."]
    if any(disturbed(results) for results in runs.values()):
        notes.append(f"{MARK.strip()}: {DISTURBED.short}.")
    bare = [name for name, entries in rows.items() if fastest_baseline(entries) is None and "int8" not in entries]
    notes += [f"{name}: int8 and the other runtimes were not measured." for name in bare]
    for name, results in runs.items():
        if short := [caveat.short for caveat in caveats(results) if caveat is not DISTURBED]:
            notes.append(f"{name}: {'; '.join(short)}.")
    shares = {name: f"{rows[name]['int8']['share_of_peak']['p50']:.0%}" for name in ("Ice Lake", "Zen 4")}
    notes.append(
        f"Int8 reaches {shares['Ice Lake']} of the peak on Ice Lake and {shares['Zen 4']} on Zen 4: Ice Lake executes "
        "all 512-bit vector instructions on two ports, so the gate and the rounding compete with the products."
    )
    return notes


def _times(row: Row) -> str:
    return f"{speed(row):.2f}x"
