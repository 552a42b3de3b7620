"""Unconditional and labeled generation: time of one clip on a CPU."""

from __future__ import annotations

from benchmarks.committed import MACHINES, load, steps_of
from benchmarks.figures.markdown import table

NETWORKS = {
    "SC09": "`SC09` (C=256, N=36)",
    "SC09, classes": "`SC09` with class labels",
    "SC09, deep and thin": "`SC09_THIN` (C=128, N=48)",
}


def generation(machine: str) -> str:
    """Return the time of half a second of audio on one of MACHINES."""
    results = load(MACHINES[machine].file)
    rows = [
        (
            NETWORKS[row["network"]],
            row["contender"],
            f"{steps_of(row, results)}",
            f"{row['seconds']['p50']:.1f} s",
            f"{row['work_seconds'] / row['audio_seconds']:.1f}",
            f"{row['share_of_peak']['p50']:.0%}",
        )
        for row in results["generations"]
    ]
    length = results["generations"][0]["audio_seconds"] / results["generations"][0]["rounds"]
    caption = (
        f"{length:g} s of audio, random weights, {results['threads']} threads of {MACHINES[machine].name}, "
        f"{results['date'][:10]}, commit {results['commit']} "
        f"([results](benchmarks/results/{MACHINES[machine].file}.json)). Share of peak: of the peak measured beside "
        "each call."
    )
    head = ("network", "precision", "steps", "time (median)", "RTF", "share of peak")
    return "\n\n".join([table(head, rows, align="ll"), caption])
