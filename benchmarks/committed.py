"""Committed results: loading them, and the caveats that belong to each.

The files keep the keys of schema 2: a comparison is listed under "duels", "contender" is an entry's name, and "peer"
is true for a baseline.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from benchmarks.paths import RESULTS
from engine.audio.metrics import RealTime
from engine.cli.bench.figures import disturbed

Results = dict[str, Any]
Row = dict[str, Any]

EAGER = "PyTorch eager fp32"  # LMNT's code; the baseline of every speed-up
PRECISIONS = ("int8", "bf16", "fp32")  # of this engine on a CPU
PREDICTED = RESULTS / "gpu-predicted.json"

# From here on results are of the bundled voice's last weights, and of its calibration.
VOICE_TRAINED = "2026-11-28T04:03:17"
INT8_LAYERS_EXCLUDED = "2026-11-28T09:50:30"
WINOGRAD = "2026-11-27T14:28:53"  # commit 5ee698b: fp32 computes the dilated convolution by Winograd


@dataclass(frozen=True)
class Machine:
    """One measured CPU, two cores of it.

    Attributes:
        file: stem of its results.
        name: microarchitecture.
    """

    file: str
    name: str


MACHINES = {
    "zen5": Machine("epyc-zen5-2-cores", "Zen 5"),
    "zen4": Machine("epyc-zen4-2-cores", "Zen 4"),
    "icelake": Machine("xeon-icelake-2-cores", "Ice Lake"),
    "zen3": Machine("epyc-zen3-2-cores", "Zen 3"),
}


def load(name: str) -> Results:
    """Return the committed results of this file stem."""
    results: Results = json.loads((RESULTS / f"{name}.json").read_text())
    return results


def comparison(results: Results, case: str) -> dict[str, Row]:
    """Return the rows of one comparison by entry, in their order."""
    [rows] = [comparison["rows"] for comparison in results["duels"] if comparison["case"] == case]
    return {row["contender"]: row for row in rows}


def speed(row: Row) -> float:
    """Return the speed of a row relative to real time.

    Raises:
        ValueError: the row is of this engine and does not pass its accuracy gate.
    """
    if row.get("passed") is False and not row["peer"]:
        raise ValueError(f"{row['contender']}: no speed is reported because the accuracy gate is red")
    return RealTime(row["audio_seconds"], row["work_seconds"]).times


def steps_of(row: Row, results: Results) -> int:
    """Return the number of denoising steps of a row; older results state one for all rows, or none for 6."""
    return int(row.get("steps", results.get("steps", 6)))


def fastest_baseline(rows: dict[str, Row]) -> Row | None:
    """Return the fastest baseline that does not fail its accuracy gate, LMNT's eager code aside."""
    others = [row for row in rows.values() if row["peer"] and row["contender"] != EAGER and row["passed"] is not False]
    return max(others, key=speed, default=None)


def decibels(row: Row) -> str:
    """Return the SNR of a row in words: "28 dB", or "reference" for this engine's own fp32."""
    return "reference" if row["snr_db"] is None else f"{row['snr_db']:.0f} dB"


@dataclass(frozen=True)
class Caveat:
    """A fact that readers of a figure must know.

    Attributes:
        short: for a table of several results, without a period.
        sentence: for the table of one result.
    """

    short: str
    sentence: str


DIRECT_FP32 = Caveat(
    "fp32 measured before Winograd (direct convolution)", "fp32: measured before Winograd (direct convolution)."
)
EARLIER_WEIGHTS = Caveat(
    "earlier weights of the bundled voice",
    "Measured with earlier weights of the bundled voice, a network of the same shape.",
)
EARLIER_INT8 = Caveat(
    "int8 included the gates and projections of the three layers that are now kept out of it",
    "Int8 included the gates and projections of the three layers that are now kept out of it.",
)
SPINNING = Caveat(
    "PyTorch's threads spun while waiting",
    "`OMP_WAIT_POLICY` was set too late: PyTorch's threads spun while waiting (GNU OpenMP's default), which slows "
    "PyTorch down beside a busy neighbor.",
)
DISTURBED = Caveat(
    "disturbed, the measured peak varied by more than a tenth",
    "Disturbed: the measured peak varied by more than a tenth; repeat on a quiet machine.",
)


def caveats(results: Results, baselines: bool = True) -> list[Caveat]:
    """Return the caveats that must stand beside the figures of these results.

    Args:
        results: the committed results.
        baselines: whether figures of baselines are shown.
    """
    applies = {
        DIRECT_FP32: before_winograd(results),
        EARLIER_WEIGHTS: results["date"] < VOICE_TRAINED,
        EARLIER_INT8: results["date"] < INT8_LAYERS_EXCLUDED and "int8" in _precisions(results),
        SPINNING: baselines and "too late" in results.get("openmp", ""),
        DISTURBED: disturbed(results),
    }
    return [caveat for caveat, present in applies.items() if present]


def before_winograd(results: Results) -> bool:
    """Return whether the fp32 of these results is the direct convolution on a CPU."""
    return bool(results["date"] < WINOGRAD) and "fp32" in _precisions(results)


def _precisions(results: Results) -> set[str]:
    """Return the precisions in which this engine ran on the CPU."""
    rows: list[Row] = [row for comparison in results.get("duels", ()) for row in comparison["rows"] if not row["peer"]]
    rows += [*results.get("curves", ()), *results.get("streams", ())]
    return {row["precision"] for row in rows if "precision" in row}
