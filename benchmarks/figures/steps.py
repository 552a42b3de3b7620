"""The speed of fewer steps."""

from __future__ import annotations

from benchmarks.committed import Results, caveats, load
from benchmarks.cpu.few_steps import cells
from benchmarks.figures.markdown import table


def few_steps(results: Results, name: str) -> str:
    """Return the table of 1 to 6 steps, and how it was measured.

    Args:
        results: the JSON of a run that has the rows of `benchmarks/cpu/bench_steps.py`.
        name: stem of the file.

    Raises:
        ValueError: the results have no such rows.
    """
    rows = results.get("few_steps")
    if not rows:
        raise ValueError(f"{name}: expected rows of bench_steps.py, got none")
    most = max(row["steps"] for row in rows)
    head = ("audio", "precision", "steps", "seconds (median)", "x real time", "share of peak", f"times {most} steps")
    caption = (
        f"All numbers of steps alternate, {rows[0]['rounds']} rounds, {results['threads']} threads of "
        f"{results['machine']['cpu']}, {results['date'][:10]}, commit {results['commit']} "
        f"([results](benchmarks/results/{name}.json))."
    )
    words = [caption, *(caveat.sentence for caveat in caveats(results, baselines=False))]
    return "\n\n".join([table(head, map(cells, rows), align="ll"), " ".join(words)])


DRAFTS = "drafts-zen4-2-cores"


def drafts() -> str:
    """Return the time of calls that refine a draft."""
    results = load(DRAFTS)
    run, machine = results["drafts"], results["machine"]
    head = ("call", "seconds (median)", "x real time", "times six steps")
    cells = [
        (row["name"], f"{row['seconds']:.3f}", f"{row['times_real_time']:.2f}", f"{row['times_six']:.2f}")
        for row in run["rows"]
    ]
    caption = (
        f"{run['frames']} frames in {run['precision']}, {run['threads']} threads, alternating, {run['rounds']} rounds. "
        f"{machine['cpu']}, load {machine['load_at_start'][0]} at the start, "
        f"{results['date'][:10]}, commit {results['commit']} ([results](benchmarks/results/{DRAFTS}.json))."
    )
    return f"{table(head, cells)}\n\n{caption}"
