"""Jobs of many files: measured workers, and the cost of a large job as a calculation from measured speeds."""

from __future__ import annotations

from benchmarks.committed import MACHINES, caveats, comparison, load, speed
from benchmarks.figures.gpu import GPU
from benchmarks.figures.machines import CASE
from benchmarks.figures.markdown import table

FILE = "many-files"
HOURS = 1000  # of audio
CORES = (2, 16, 128)
GPUS = (1, 16)


def cost() -> str:
    """Return the hours that a large job takes on CPU cores and on GPUs, calculated from committed speeds."""
    rows = []
    for machine in MACHINES.values():
        entries = comparison(load(machine.file), CASE)
        best = max((row for row in entries.values() if not row["peer"]), key=speed)
        times = [hours(speed(best) * cores / 2) for cores in CORES]
        rows.append((f"{machine.name}, {best['contender']}", f"{speed(best):.2f} on 2 cores", *times, "", ""))
    results = load(GPU)
    row = max((row for row in results["gpu"] if row["precision"] == "fp16"), key=lambda row: row["times_real_time"])
    name = f"{row['gpu']}, fp16, batches of {row['items']} x {row['seconds']:g} s"
    times = [hours(row["times_real_time"] * count) for count in GPUS]
    rows.append((name, f"{row['times_real_time']:.0f}", "", "", "", *times))
    head = ("processor", "x real time, measured", *(f"{cores} cores" for cores in CORES), "1 GPU", "16 GPUs")
    notes = (
        f"Hours for {HOURS:,} h of audio by the bundled voice in 6 steps: the measured speed of a call, divided among "
        "parts that share nothing. Reading, writing and the last, incomplete round of files are left out. The CPU "
        "figures are those of [performance](docs/performance.md), the GPU's of [the GPU](docs/gpu.md), with their "
        "caveats."
    )
    return f"{table(head, rows)}\n\n{notes}"


def workers() -> str:
    """Return files per second and efficiency of one and two workers, and the overhead of a file."""
    results = load(FILE)
    run, machine = results["many_files"], results["machine"]
    single = run["rows"][0]["files_per_second"]
    rows = [
        (
            str(row["workers"]),
            str(row["threads"]),
            f"{row['files_per_second']:.2f}",
            f"{row['times_real_time']:.2f}",
            f"{row['files_per_second'] / single / row['threads']:.0%}",
        )
        for row in run["rows"]
    ]
    head = ("workers", "threads together", "files per second", "x real time", "efficiency")
    times = run["overhead_ms"]
    notes = [
        f"{run['files']} mels of {run['frames']} frames, {run['precision']}, median of {run['rounds']} runs, with the "
        f"start of the processes; efficiency is relative to one thread. {machine['cpu']}, load "
        f"{machine['load_at_start'][0]} at the start, {results['date'][:10]}, commit {results['commit']} "
        f"([results](benchmarks/results/{FILE}.json)).",
        f"Overhead of a job of {run['tiny']:,} files whose network computes nothing: {times['without_fsync']:.1f} ms a "
        f"file, and {times['with_fsync']:.1f} ms where the disk is waited for.",
        *(caveat.sentence for caveat in caveats({**results, "duels": [], "curves": []}, baselines=False)),
    ]
    return f"{table(head, rows, align='rr')}\n\n{' '.join(notes)}"


def hours(times_real_time: float) -> str:
    """Return the hours of the job at a speed, with at least two digits.

    Args:
        times_real_time: the speed.
    """
    value = HOURS / times_real_time
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}" if value >= 1 else f"{value:.2f}"
