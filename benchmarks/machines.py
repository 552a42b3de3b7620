"""The committed results of several machines in one table: python -m benchmarks.machines prints that of the README."""

from __future__ import annotations

import json
from typing import Any

from benchmarks.paths import RESULTS
from benchmarks.report import EAGER
from engine.audio.metrics import RealTime
from engine.cli.bench.figures import disturbed

CASE = "4 s"
OWN = ("int8", "bf16", "fp32")
# Two cores of each; files in RESULTS.
NAMES = {
    "epyc-zen5-2-cores": "Zen 5",
    "epyc-zen4-2-cores": "Zen 4",
    "xeon-icelake-2-cores": "Ice Lake",
    "epyc-zen3-2-cores": "Zen 3",
}


def table() -> str:
    """How many times real time each contender ran, in turns with the others of its line."""
    lines = [
        "| two cores of | int8 | bf16 | fp32 | fastest other | LMNT's code in PyTorch | commit |",
        "|---|---:|---:|---:|---:|---:|---|",
    ]
    for stem, name in NAMES.items():
        results = json.loads((RESULTS / f"{stem}.json").read_text())
        [duel] = [duel for duel in results["duels"] if duel["case"] == CASE]
        rows = {row["contender"]: row for row in duel["rows"]}
        others = [row for row in duel["rows"] if row["peer"] and row["contender"] != EAGER]
        cells = [
            f"[{name}](benchmarks/results/{stem}.json){' *' if disturbed(results) else ''}",
            *(_times(rows[own]) if own in rows else "" for own in OWN),
            _named(max(others, key=lambda row: float(row["audio_seconds"] / row["work_seconds"]))) if others else "",
            _times(rows[EAGER]),
            results["commit"],
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _times(row: dict[str, Any]) -> str:
    return f"{RealTime(row['audio_seconds'], row['work_seconds']).times:.2f}x"


def _named(row: dict[str, Any]) -> str:
    return f"{row['contender']} {_times(row)}, {row['snr_db']:.0f} dB"


if __name__ == "__main__":
    print(table())
