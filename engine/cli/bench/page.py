"""The report: one HTML page without external files, from the JSON of `engine bench` or of benchmarks/."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from engine.cli.bench.curves import AXES
from engine.cli.bench.figures import BUSY, disturbed
from engine.cli.bench.machine import SCHEMA
from engine.cli.bench.plot import Axis, Series, bars, lines, number

Results = Mapping[str, Any]
COLORS = {"int8": "#2f855a", "bf16": "#1b6ca8", "fp32": "#b7791f"}
BASELINE_COLORS = {"int8": "#9cc9b0", "bf16": "#9bbfe0", "fp32": "#e0c48f"}
GPU_COLORS = ("#1b6ca8", "#c0504d", "#4f8f3a", "#8057a5")
MIB = 2**20
_LABELS = {
    "length": Axis("seconds of audio", log=True),
    "threads": Axis("threads", log=True),
    "batch": Axis("items of a batch", log=True),
    "steps": Axis("denoising steps", log=True),
    "channels": Axis("residual channels", log=True),
}


def html(results: Results) -> str:
    """Return the page; parts that the results do not have are left out.

    Args:
        results: the parsed JSON.

    Raises:
        ValueError: the JSON has another schema.
    """
    if results.get("schema") != SCHEMA:
        raise ValueError(f"schema: expected {SCHEMA}, got {results.get('schema')}")
    body = [*_head(results), *_comparisons(results), *_curves(results), *_predictions(results), *_left_out(results)]
    return "\n".join([_TOP, *body, "</main></body></html>\n"])


def _head(results: Results) -> list[str]:
    machine = results["machine"]
    isa = results.get("isa", machine["tiers"][-1])
    facts = {
        "network": f"{results['network']}, {results['steps']} steps",
        "machine": f"{machine['cpu']} ({isa}), {machine['cores']} cores, {machine['system']}",
        "load": f"{' '.join(map(str, machine['load_at_start'])) or 'unknown'} at the start",
        "run": f"{results['threads']} threads, {results['date']}, commit {results['commit']}",
        "versions": ", ".join(f"{name} {version}" for name, version in results["versions"].items()),
        "clock": results["clock"],
    }
    rows = "".join(f"<dt>{name}</dt><dd>{escape(text)}</dd>" for name, text in facts.items())
    head = [f"<h1>DiffWave on {escape(machine['cpu'])}</h1>", *_headline(results), f"<dl>{rows}</dl>"]
    if disturbed(results):
        head.append(f"<p class=warning>{BUSY}</p>")
    return head


def _headline(results: Results) -> list[str]:
    if results.get("duels"):
        comparison = results["duels"][0]
        best = min((row for row in comparison["rows"] if not row["peer"]), key=_median)
        baselines = [row for row in comparison["rows"] if row["peer"] and row["passed"]]
        fastest = ""
        if baselines:
            baseline = min(baselines, key=_median)
            fastest = (
                f"; the fastest baseline that passes its accuracy gate, {baseline['contender']}, "
                f"at {_times(baseline):.2f}x"
            )
        subject = f"{comparison['case']} of audio in {best['contender']}, {_steps(best, results)} steps"
        return [_lead(f"{subject}: {_times(best):.2f}x real time{fastest}.")]
    rows = [row for row in results.get("curves", ()) if row["axis"] == "length"]
    if not rows:
        return []
    best = min(rows, key=lambda row: row["rtf"]["p50"])
    subject = f"{best['value']:g} s of audio in {best['precision']}, {best['steps']} steps"
    return [_lead(f"{subject}: {1 / best['rtf']['p50']:.2f}x real time.")]


def _lead(words: str) -> str:
    return f"<p class=lead>{escape(words)}</p>"


def _comparisons(results: Results) -> list[str]:
    parts = []
    for comparison in results.get("duels", ()):
        rows = sorted(comparison["rows"], key=_median)
        parts.append(f"<h2>Speed of {escape(comparison['case'])} of audio, measured in turns</h2>")
        plots = [
            bars("times real time", "x", [(_name(r), _times(r), _color(r)) for r in rows]),
            bars(
                "share of the processor's peak in the precision",
                "%",
                [(_name(r), 100 * r["share_of_peak"]["p50"], _color(r)) for r in rows if r["share_of_peak"]],
            ),
            *_scatter([(_name(r), _times(r), r["snr_db"], _color(r)) for r in rows]),
        ]
        parts += [_grid(plots), _table(_COMPARISON, [_comparison_cells(row, results) for row in rows])]
        skipped = comparison["skipped"].items()
        parts += [f"<p>Not measured: {escape(name)}: {escape(reason)}.</p>" for name, reason in skipped]
    if parts:
        parts.append(f"<p>{_NOTES}</p>")
    return parts


def _scatter(points: Sequence[tuple[str, float, float | None, str]]) -> list[str]:
    """Plot accuracy against speed; no plot without an SNR.

    The reference has no SNR: a line over all of them marks its speed.
    """
    best = max((db for _, _, db, _ in points if db is not None), default=None)
    if best is None:
        return []
    series = [
        Series(f"{name}: the reference", [(times, 0.0), (times, best)], color, True, True, False)
        if db is None
        else Series(name, [(times, db)], color, False)
        for name, times, db, color in points
    ]
    x, y = Axis("times real time", log=True), Axis("dB SNR", zero=True)
    return [lines("accuracy against speed", x, y, series, names_at_right=True)]


def _curves(results: Results) -> list[str]:
    rows = list(results.get("curves", ()))
    if not rows:
        return []
    parts = []
    if results.get("curves_run"):
        parts.append(f"<p>From another run: {escape(results['curves_run'])} at the start.</p>")
    speed, costs = [], []
    for axis in AXES:
        selected = [row for row in rows if row["axis"] == axis]
        if len({row["value"] for row in selected}) < 2:
            continue
        grows = axis in ("steps", "channels")
        speed.append(
            _lines("real-time factor", axis, selected, Axis("RTF", grows, not grows), lambda row: row["rtf"]["p50"])
        )
        costs.append(_lines("time of a call", axis, selected, Axis("seconds", log=True), _median))
        costs.append(
            _lines("memory of a call", axis, selected, Axis("MiB", zero=True), lambda r: r["memory_bytes"] / MIB)
        )
    text = "A real-time factor below 1 is faster than real time. The plots not over length are of the shortest audio."
    parts += _section("Growth with the work", text, speed)
    parts += _section(*_precisions(results, [row for row in rows if row["axis"] == "length"]))
    memory = "Memory is the peak of the process during the calls minus its size before."
    parts += _section("Time and memory", memory, costs)
    table = _table(_POINT, [_cells(row) for row in rows])
    return [*parts, f"<details><summary>All points</summary>{table}</details>"]


def _precisions(results: Results, rows: Sequence[Results]) -> tuple[str, str, list[str]]:
    """Return the section that compares the precisions, at the longest audio that all of them were measured at."""
    lengths = [{row["value"] for row in rows if row["precision"] == p} for p in {row["precision"] for row in rows}]
    common = set.intersection(*lengths) if lengths else set()
    if not common:
        return "Precisions", "", []
    length = max(common)
    base = [row for row in rows if row["value"] == length]
    shares = [(r["precision"], 100 * r["share_of_peak"]["p50"], _color_of(r["precision"])) for r in base]
    plots = [bars("share of the processor's peak", "%", shares)]
    if not results.get("duels"):
        snr = {entry["precision"]: entry["snr_db"] for entry in results["accuracy"]}
        points = [(r["precision"], 1 / r["rtf"]["p50"], snr.get(r["precision"])) for r in base]
        plots += _scatter([(*point, _color_of(point[0])) for point in points])
    return "Precisions", f"Calls of {length:g} s of audio.", plots


def _section(title: str, text: str, plots: Sequence[str]) -> list[str]:
    """Return a heading, a paragraph and plots; nothing without plots."""
    return [f"<h2>{title}</h2>", f"<p>{text}</p>", _grid(plots)] if plots else []


def _color_of(precision: str) -> str:
    return COLORS.get(precision, "#555")


def _lines(quantity: str, axis: str, rows: Sequence[Results], y: Axis, value: Any) -> str:
    series = []
    for precision in dict.fromkeys(row["precision"] for row in rows):
        points = sorted((row["value"], value(row)) for row in rows if row["precision"] == precision)
        series.append(Series(precision, points, _color_of(precision)))
    if y.label == "RTF":
        values = [row["value"] for row in rows]
        series.append(Series("real time", [(min(values), 1.0), (max(values), 1.0)], "#8a8f98", True, True, False))
    return lines(f"{quantity} over {axis}", _LABELS[axis], y, series)


def _predictions(results: Results) -> list[str]:
    predicted = results.get("gpu_predicted")
    if not predicted:
        return []
    series = []
    for gpu, color in zip(dict.fromkeys(row["gpu"] for row in predicted["rows"]), GPU_COLORS, strict=False):
        rows = [row for row in predicted["rows"] if (row["gpu"], row["network"], row["items"]) == (gpu, "BASE", 1)]
        points = sorted((row["seconds"], row["times_real_time"]) for row in rows)
        series.append(Series(gpu, points, color, dashed=True))
    return [
        "<h2>Predicted for GPUs: not measured</h2>",
        "<p>Predictions of a performance model for the compiled kernels, BASE in 6 steps in fp16; no GPU ran them.</p>",
        _grid([lines("PREDICTED", Axis("seconds of audio", log=True), Axis("times", log=True), series, True)]),
    ]


def _left_out(results: Results) -> list[str]:
    left_out = results.get("left_out")
    if not left_out:
        return []
    items = "".join(f"<li>{escape(name)}: {escape(reason)}</li>" for name, reason in left_out.items())
    return [f"<details><summary>Left out ({len(left_out)})</summary><ul>{items}</ul></details>"]


_COMPARISON = ("entry", "steps", "conditioner", "seconds p20 / p50 / p80", "x real time", "share", "x eager", "SNR dB")
_POINT = ("axis", "value", "precision", "steps", "seconds p20 / p50 / p80", "RTF", "share", "MiB")
_NOTES = (
    "All entries compute audio from the same mels and noise, on the same number of threads, in turns. The SNR compares "
    "with this engine's fp32 audio, which itself has none; * fails its accuracy gate. Share of peak: residual-layer "
    "multiply-accumulates per second divided by the peak measured next to each call. They are those of the direct "
    "convolution, so Winograd's savings count as speed. This engine computes the conditioner once; baselines compute "
    "it in every step unless their row says otherwise."
)


def _comparison_cells(row: Results, results: Results) -> tuple[str, ...]:
    return (
        row["contender"],
        f"{_steps(row, results)}",
        row["conditioner"],
        _spread(row["seconds"]),
        f"{_times(row):.2f}",
        f"{row['share_of_peak']['p50']:.0%}" if row["share_of_peak"] else "-",
        "-" if row["passed"] is False else f"{row['times_eager']['p50']:.1f}",
        ("-" if row["snr_db"] is None else f"{row['snr_db']:.0f}") + "*" * (row["passed"] is False),
    )


def _cells(row: Results) -> tuple[str, ...]:
    figures = (f"{row['rtf']['p50']:.3f}", f"{row['share_of_peak']['p50']:.0%}", number(row["memory_bytes"] / MIB))
    return (row["axis"], f"{row['value']:g}", row["precision"], f"{row['steps']}", _spread(row["seconds"]), *figures)


def _steps(row: Results, results: Results) -> int:
    """Return the number of steps of an entry; older results have one for all."""
    return int(row.get("steps", results["steps"]))


def _spread(seconds: Mapping[str, float]) -> str:
    return " / ".join(f"{seconds[name]:.2f}" for name in ("p20", "p50", "p80"))


def _median(row: Results) -> float:
    return float(row["seconds"]["p50"])


def _times(row: Results) -> float:
    return float(row["audio_seconds"] / row["work_seconds"])


def _name(row: Results) -> str:
    return str(row["contender"]) + "*" * (row["passed"] is False)


def _color(row: Results) -> str:
    return (BASELINE_COLORS if row["peer"] else COLORS).get(row["precision"], "#555")


def _grid(plots: Sequence[str]) -> str:
    return "<div class=grid>" + "\n".join(f"<figure>{plot}</figure>" for plot in plots) + "</div>"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def line(cells: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    return "<div class=wide><table>" + line(head, "th") + "".join(line(row, "td") for row in rows) + "</table></div>"


_TOP = """<!doctype html>
<html lang=en><head><meta charset=utf-8><meta name=viewport content="width=device-width,initial-scale=1">
<title>DiffWave: speed</title><style>
body{margin:0;background:#fff;color:#1f2933;font:16px/1.5 system-ui,sans-serif}
main{max-width:1040px;margin:0 auto;padding:1.5rem 1rem 4rem}
h1{font-size:1.6rem;line-height:1.2;margin:0 0 .5rem}h2{font-size:1.2rem;margin:2.5rem 0 .5rem}
.lead{font-size:1.15rem;margin:.2rem 0 1rem}.warning{background:#fff4d6;padding:.6rem .8rem;border-radius:4px}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.15rem 1rem;margin:0;font-size:.9rem;color:#3e4c59}
dt{color:#616e7c}dd{margin:0}
.grid{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,420px),1fr));gap:1rem 2rem}
figure{margin:0}svg{width:100%;max-width:560px;height:auto;display:block}
.wide{overflow-x:auto}table{border-collapse:collapse;font-size:.88rem;font-variant-numeric:tabular-nums;margin:.8rem 0}
th,td{padding:.25rem .8rem .25rem 0;text-align:right;white-space:nowrap;border-bottom:1px solid #e4e7eb}
th{font-weight:600;color:#616e7c}th:first-child,td:first-child{text-align:left}
summary{cursor:pointer;margin:1rem 0}
</style></head><body><main>"""
