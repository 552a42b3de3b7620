"""What a run of the benchmarks says: as JSON, in words, and as the README's table.

python -m benchmarks.report FILE                       # the Markdown of what `pytest --benchmark --results=FILE` wrote
python -m benchmarks.report FILE [CURVES] --html OUT   # the page; curves from what `engine bench --json CURVES` wrote
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.paths import RESULTS
from engine.audio.metrics import RealTime
from engine.cli.bench.figures import disturbed
from engine.cli.bench.machine import SCHEMA
from engine.cli.bench.machine import environment as common
from engine.cli.bench.page import html

PREDICTED = RESULTS / "gpu-predicted.json"
EAGER = "PyTorch eager fp32"
TARGET = 5.0  # times real time
PACKAGES = ("torch", "diffwave", "onnxruntime", "openvino", "nncf")  # whose versions matter
PAPER = "the paper's BASE in 6 steps ran 5.6x real time on a V100"
Results = dict[str, Any]


def environment(load: Iterable[float]) -> Results:
    """As `engine bench` writes it, and what the peers are."""
    found = common(load)
    peers = {name: version for name in PACKAGES if (version := _version(name))}
    openmp = f"OMP_WAIT_POLICY={os.environ.get('OMP_WAIT_POLICY', 'unset')}"
    return {**found, "versions": {**found["versions"], **peers}, "openmp": openmp}


def section(results: Results) -> list[str]:
    """The lines for the terminal."""
    lines = [*_setting(results), f"clock   {results['clock']}", f"target  {TARGET:g}x real time ({PAPER})"]
    if results["calls"]:
        lines += ["", "one after the other (not to be compared with each other on a busy machine)"]
        for row in results["calls"]:
            lines.append(f"  {row['case']:<10} {row['contender']:<28} {RealTime(*_totals(row))}")
    for duel in results["duels"]:
        lines += ["", f"taking turns, {duel['case']} of audio"]
        lines += [f"  {_fixed(cells)}" for cells in [_HEAD, *(_cells(row) for row in duel["rows"])]]
        lines += [f"  {name}: not measured: {why}" for name, why in duel["skipped"].items()]
    if results["duels"]:
        lines += ["", *(f"{head:<7} {text}" for head, text in _NOTES), *_disturbed(results)]
    return lines


def markdown(results: Results) -> str:
    """The README's table."""
    if results["schema"] != SCHEMA:
        raise ValueError(f"schema: expected {SCHEMA}, got {results['schema']}")
    lines = [
        "| audio | " + " | ".join(_HEAD) + " |",
        "|---|---|" + "---:|" * (len(_HEAD) - 1),
    ]
    for number, duel in enumerate(results["duels"]):
        shown = duel["rows"] if number == 0 else _chosen(duel["rows"])
        lines += [f"| {duel['case']} | " + " | ".join(_cells(row)) + " |" for row in shown]
    return "\n".join([*lines, "", *(f"- {line}" for line in _prose(results))])


_HEAD = (
    *("contender", "rounds", "seconds p20 / p50 / p80", "RTF", "x real time"),
    *("share", "peak GFLOP/s", "x eager", "SNR dB"),
)
_NOTES = (
    ("RTF", "sum of work / sum of audio over the rounds; x real time is its inverse"),
    (
        "share",
        "the residual layers' multiply-accumulates alone per second, counted one by one whoever saves some, of the "
        "peak beside each call; median",
    ),
    ("peak", "2 x multiply-accumulates per second on registers alone, before and after each call; median"),
    ("eager", "PyTorch, same weights, mel, noise and threads, the conditioner in every step; median of ratios"),
    ("SNR", "against this engine's fp32 audio of the same noise; * fails its accuracy gate"),
)


def _cells(row: Results) -> tuple[str, ...]:
    speed = RealTime(*_totals(row))
    seconds = " / ".join(f"{row['seconds'][name]:.2f}" for name in ("p20", "p50", "p80"))
    return (
        row["contender"],
        str(row["rounds"]),
        seconds,
        f"{speed.rtf:.2f}",
        f"{speed.times:.2f}",
        f"{row['share_of_peak']['p50']:.0%}" if row["share_of_peak"] else "-",
        f"{row['peak_gflops']['p50']:.0f}" if row["peak_gflops"] else "-",
        f"{row['times_eager']['p50']:.1f}",
        ("-" if row["snr_db"] is None else f"{row['snr_db']:.0f}") + "*" * (row["passed"] is False),
    )


def _chosen(rows: Sequence[Results]) -> list[Results]:
    """For a short table: this engine, the fastest peer that passes its gate, and PyTorch."""
    others = [row for row in rows if row["peer"]]
    best = min((row for row in others if row["passed"]), key=lambda row: row["seconds"]["p50"])
    return [row for row in rows if not row["peer"] or row in (best, others[0])]


def _fixed(cells: Iterable[str]) -> str:
    widths = (28, 7, 25, 8, 12, 6, 13, 8, 7)
    return "".join(f"{cell:<{w}}" if w == 28 else f"{cell:>{w}}" for cell, w in zip(cells, widths, strict=True))


def _totals(row: Results) -> tuple[float, float]:
    return row["audio_seconds"], row["work_seconds"]


def _setting(results: Results) -> list[str]:
    machine, versions = results["machine"], results["versions"]
    return [
        f"run     {results['date']}, commit {results['commit']}, {results['network']}, {results['steps']} steps, "
        f"{results['threads']} threads",
        f"machine {machine['cpu']}, {machine['cores']} cores, {machine['system']}, "
        f"load at start {' '.join(map(str, machine['load_at_start']))}",
        f"tiers   {', '.join(machine['tiers'])}",
        "with    " + ", ".join(f"{name} {version}" for name, version in versions.items()) + f", {results['openmp']}",
    ]


def _prose(results: Results) -> list[str]:
    machine = results["machine"]
    return [
        f"{results['network']}, {results['steps']} steps, {results['threads']} threads of {machine['cpu']} "
        f"({machine['cores']} cores, load {machine['load_at_start'][0]} at the start), {results['date'][:10]}, "
        f"commit {results['commit']}, {_runtimes(results)} with {results['openmp']}.",
        f"The clock holds {results['clock']}.",
        *(f"{head[0].upper()}{head[1:]}: {text}." for head, text in _NOTES),
        f"Accuracy gate: {_worst(results)}.",
        f"Target: {TARGET:g}x real time; {PAPER}.",
        *_disturbed(results),
    ]


def _worst(results: Results) -> str:
    """What the gate found over all cases: of PyTorch, and of each precision of this engine."""
    rows = [row for duel in results["duels"] for row in duel["rows"]]
    eager = max(row["error"] for duel in results["duels"] for row in duel["rows"] if row["contender"] == EAGER)
    found = [f"fp32 within {eager:.1g} of PyTorch's peak amplitude"]
    for precision in dict.fromkeys(row["precision"] for row in rows if not row["peer"] and row["snr_db"] is not None):
        least = min(row["snr_db"] for row in rows if row["contender"] == precision)
        found.append(f"{precision} at {least:.0f} dB SNR against fp32")
    return ", ".join(found)


def _runtimes(results: Results) -> str:
    names = {"torch": "PyTorch", "diffwave": "LMNT's diffwave", "onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}
    names["nncf"] = "NNCF"
    versions = results["versions"]
    return ", ".join(f"{name} {versions[key]}" for key, name in names.items() if key in versions)


def _disturbed(results: Results) -> list[str]:
    """One sentence when the machine was not quiet: then the figures of this run are not for quoting."""
    if not disturbed(results):
        return []
    return ["DISTURBED: the peak itself varied by more than a tenth between rounds; repeat on a quiet machine"]


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def page(results: Results, curves: Results | None = None, predicted: Path = PREDICTED) -> str:
    """The HTML page: the duels, the curves of the same run or of another, and what is predicted for GPUs."""
    other = {} if curves is None else {name: curves[name] for name in ("curves", "accuracy", "left_out")}
    if curves is not None:
        load = " ".join(map(str, curves["machine"]["load_at_start"]))
        other["curves_run"] = f"{curves['date']}, commit {curves['commit']}, {curves['machine']['cpu']}, load {load}"
    return html({**results, **other, "gpu_predicted": json.loads(predicted.read_text())})


def main(argv: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", metavar="FILE", type=Path)
    parser.add_argument("curves", metavar="CURVES", type=Path, nargs="?")
    parser.add_argument("--html", metavar="OUT", type=Path)
    arguments = parser.parse_args(argv)
    results, *curves = (json.loads(path.read_text()) for path in (arguments.file, arguments.curves) if path)
    if arguments.html:
        arguments.html.write_text(page(results, *curves), encoding="utf-8")
    else:
        print(markdown(results))


if __name__ == "__main__":
    main()
