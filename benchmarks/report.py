"""The report of a benchmark run: for the terminal, as a Markdown table and as an HTML page.

python -m benchmarks.report FILE                       # Markdown, from the JSON of `pytest --benchmark --results=FILE`
python -m benchmarks.report FILE [CURVES] --html OUT   # HTML, with the curves of `engine bench --json CURVES`
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterable, Sequence
from importlib import metadata
from pathlib import Path

from benchmarks.committed import EAGER, PRECISIONS, PREDICTED, Results, Row, before_winograd, caveats, steps_of
from benchmarks.cpu.compare import BASELINE_SNR, ENGINE_SNR, FP32_ERROR
from benchmarks.figures.markdown import bullets, table
from engine.audio.metrics import RealTime
from engine.cli.bench.machine import SCHEMA
from engine.cli.bench.machine import environment as engine_environment
from engine.cli.bench.page import html

PACKAGES = {  # whose versions are recorded
    "torch": "PyTorch",
    "diffwave": "LMNT's diffwave",
    "onnxruntime": "ONNX Runtime",
    "openvino": "OpenVINO",
    "nncf": "NNCF",
}
HOISTED = "hoisted", "conditioner computed once"  # in names of entries: in the files, in the tables


def environment(load: Iterable[float]) -> Results:
    """Return the header of a results file, as `engine bench` writes it, with the versions of the baselines."""
    common = engine_environment(load)
    baselines = {name: version for name in PACKAGES if (version := _version(name))}
    openmp = f"OMP_WAIT_POLICY={os.environ.get('OMP_WAIT_POLICY', 'unset')}"
    return {**common, "versions": {**common["versions"], **baselines}, "openmp": openmp}


def section(results: Results) -> list[str]:
    """Return the lines for the terminal."""
    lines = [*_setting(results), f"clock   {results['clock']}"]
    if results["calls"]:
        lines += ["", "single calls, one engine after the other (on a busy machine they are not comparable)"]
        for row in results["calls"]:
            lines.append(f"  {row['case']:<10} {row['contender']:<28} {RealTime(*_totals(row))}")
    for comparison in results["duels"]:
        lines += ["", f"comparison (engines alternate), {comparison['case']} of audio"]
        lines += [f"  {_fixed(cells)}" for cells in [_HEAD, *(_cells(row, results) for row in comparison["rows"])]]
        lines += [f"  {name}: not measured: {reason}" for name, reason in comparison["skipped"].items()]
    if results["duels"]:
        lines += ["", *(f"{head:<14} {text}" for head, text in _notes(not before_winograd(results)))]
        lines += [f"{'Accuracy':<14} {_accuracy(results)}", *(caveat.sentence for caveat in caveats(results))]
    return lines


def markdown(results: Results, explained: bool = True) -> str:
    """Return the table of all comparisons, with notes and caveats.

    The first comparison shows every entry; the others this engine, PyTorch and the fastest baseline.

    Args:
        results: the JSON of a run.
        explained: whether the columns are explained below the table.

    Raises:
        ValueError: the results are of another schema.
    """
    if results["schema"] != SCHEMA:
        raise ValueError(f"schema: expected {SCHEMA}, got {results['schema']}")
    rows = []
    for number, comparison in enumerate(results["duels"]):
        shown = comparison["rows"] if number == 0 else _chosen(comparison["rows"])
        rows += [(comparison["case"], *_cells(row, results)) for row in shown]
    return f"{table(('audio', *_HEAD), rows, align='ll')}\n\n{bullets(_prose(results, explained))}"


def legend() -> str:
    """Return the explanations of the columns, which hold for every table."""
    return bullets(_explanations(_notes(winograd=True)))


_HEAD = (
    *("engine", "steps", "rounds", "seconds p20 / p50 / p80", "RTF", "x real time"),
    *("share of peak", "peak GFLOP/s", "x eager", "SNR dB"),
)
_SHARE = (
    "residual-layer MAC/s divided by the peak measured beside each call (median); MACs are those of the direct "
    "convolution"
)
_SAVINGS = ", so Winograd's savings count as speed where a kernel uses it"


def _notes(winograd: bool) -> list[tuple[str, str]]:
    """Return the explanation of each column, with or without that of Winograd's share."""
    return [
        ("RTF", 'seconds of work per second of audio, over all rounds; "x real time" is its inverse'),
        ("Share of peak", _SHARE + _SAVINGS * winograd),
        ("Peak", "multiply-accumulates on registers alone, 2 FLOP each, measured before and after each call (median)"),
        (
            "x eager",
            "speed-up over LMNT's code in PyTorch with the same weights, mel, noise and threads, which computes the "
            "conditioner in every step (median of ratios)",
        ),
        ("SNR", "against this engine's fp32 audio of the same noise; * fails its accuracy gate, so it has no speed-up"),
    ]


def _cells(row: Row, results: Results) -> tuple[str, ...]:
    speed = RealTime(*_totals(row))
    seconds = " / ".join(f"{row['seconds'][name]:.2f}" for name in ("p20", "p50", "p80"))
    failed = row["passed"] is False
    return (
        row["contender"].replace(*HOISTED),
        f"{steps_of(row, results)}",
        str(row["rounds"]),
        seconds,
        f"{speed.rtf:.2f}",
        f"{speed.times:.2f}",
        f"{row['share_of_peak']['p50']:.0%}" if row["share_of_peak"] else "-",
        f"{row['peak_gflops']['p50']:.0f}" if row["peak_gflops"] else "-",
        "-" if failed else f"{row['times_eager']['p50']:.1f}",
        ("-" if row["snr_db"] is None else f"{row['snr_db']:.0f}") + "*" * failed,
    )


def _chosen(rows: Sequence[Row]) -> list[Row]:
    """Return the rows of a short table: this engine, PyTorch, and the fastest baseline that passes its gate."""
    baselines = [row for row in rows if row["peer"]]
    best = min((row for row in baselines if row["passed"]), key=lambda row: float(row["seconds"]["p50"]))
    return [row for row in rows if not row["peer"] or row in (best, baselines[0])]


def _fixed(cells: Iterable[str]) -> str:
    widths = (41, 6, 7, 25, 8, 12, 14, 13, 8, 7)
    return "".join(f"{cell:<{w}}" if w == 41 else f"{cell:>{w}}" for cell, w in zip(cells, widths, strict=True))


def _totals(row: Row) -> tuple[float, float]:
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


def _prose(results: Results, explained: bool) -> list[str]:
    machine = results["machine"]
    return [
        f"Run: {results['network']}, {results['steps']} steps, {results['threads']} threads of {machine['cpu']} "
        f"({machine['cores']} cores, load {machine['load_at_start'][0]} at the start), {results['date'][:10]}, "
        f"commit {results['commit']}, {_runtimes(results)}, {results['openmp']}.",
        *([f"Clock: {results['clock']}."] if explained else []),
        *(_explanations(_notes(not before_winograd(results))) if explained else []),
        _accuracy(results),
        *(caveat.sentence for caveat in caveats(results)),
    ]


def _explanations(notes: Iterable[tuple[str, str]]) -> list[str]:
    return [f"{head}: {text}.".replace("; *", "; \\*") for head, text in notes]


def _accuracy(results: Results) -> str:
    """Return the worst accuracy over all cases, and the accuracy that the gate requires."""
    rows = [row for comparison in results["duels"] for row in comparison["rows"]]
    error = max(row["error"] for row in rows if row["contender"] == EAGER)
    own = {row["precision"] for row in rows if not row["peer"] and row["snr_db"] is not None}
    others = {row["precision"] for row in rows if row["peer"]}
    measured = [f"fp32 within {error:.1g} of PyTorch's peak amplitude"]
    required = [f"fp32 within {FP32_ERROR:.0e}"]
    for precision in (precision for precision in PRECISIONS if precision in own):
        worst = min(row["snr_db"] for row in rows if row["contender"] == precision)
        measured.append(f"{precision} {worst:.0f} dB")
        required.append(f"{precision} {ENGINE_SNR[precision]:.0f} dB")
    gated = [
        f"baselines in {precision} {BASELINE_SNR[precision]:.0f} dB" for precision in sorted(others & set(BASELINE_SNR))
    ]
    free = [f"baselines in {precision} are not gated" for precision in sorted(others - {*BASELINE_SNR, "fp32"})]
    words = "; ".join([", ".join([*required, *gated]), *free])
    return f"Worst accuracy measured: {', '.join(measured)}. Required: {words}."


def _runtimes(results: Results) -> str:
    versions = results["versions"]
    return ", ".join(f"{name} {versions[key]}" for key, name in PACKAGES.items() if key in versions)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def page(results: Results, curves: Results | None = None, predicted: Path = PREDICTED) -> str:
    """Return the HTML page: the comparisons, the curves and the prediction for GPUs.

    Args:
        results: results of the comparisons, and of the curves if there are no others.
        curves: results of another run, whose curves are shown instead.
        predicted: JSON of the prediction.
    """
    other = {} if curves is None else {name: curves[name] for name in ("curves", "accuracy", "left_out")}
    if curves is not None:
        load = " ".join(map(str, curves["machine"]["load_at_start"]))
        other["curves_run"] = f"{curves['date']}, commit {curves['commit']}, {curves['machine']['cpu']}, load {load}"
    return html({**results, **other, "gpu_predicted": json.loads(predicted.read_text())})


def main(argv: Sequence[str] | None = None) -> None:
    """Print the Markdown table, or write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", metavar="FILE", type=Path, help="JSON of pytest --benchmark --results=FILE")
    parser.add_argument("curves", metavar="CURVES", type=Path, nargs="?", help="JSON of engine bench --json")
    parser.add_argument("--html", metavar="OUT", type=Path, help="write an HTML page instead")
    arguments = parser.parse_args(argv)
    results, *curves = (json.loads(path.read_text()) for path in (arguments.file, arguments.curves) if path)
    if arguments.html:
        arguments.html.write_text(page(results, *curves), encoding="utf-8")
    else:
        print(markdown(results))


if __name__ == "__main__":
    main()
