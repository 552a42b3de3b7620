"""Speed on the measured GPU."""

from __future__ import annotations

from typing import Any

from benchmarks.committed import Results, caveats, load, steps_of
from benchmarks.figures.markdown import bullets, table

GPU = "h100"
PRECISIONS = ("fp16", "bf16", "tf32", "fp32")
ENTRIES = {
    "LMNT, PyTorch eager": "LMNT's package as published (cuDNN uses tf32)",
    "LMNT, fp16 autocast": "LMNT's package under fp16 autocast",
    "PyTorch fp16, CUDA graph": "PyTorch fp16, all six steps in a CUDA graph",
    "PyTorch fp16, channels last, CUDA graph": "PyTorch fp16, channels last, CUDA graph",
}


def calls() -> str:
    """Return the time and speed of whole calls: precisions against batch and length."""
    results = load(GPU)
    cells: dict[tuple[int, float], dict[str, str]] = {}
    for row in results["gpu"]:
        figures = f"{milliseconds(row)} ms, {row['times_real_time']:.0f}x"
        cells.setdefault((row["items"], row["seconds"]), {})[row["precision"]] = figures
    counts = {row["precision"]: steps_of(row, results) for row in results["gpu"]}
    head = ("precision", "steps", *(f"{items} x {seconds:g} s" for items, seconds in cells))
    rows = [
        (precision, f"{counts[precision]}", *(column.get(precision, "") for column in cells.values()))
        for precision in PRECISIONS
        if precision in counts
    ]
    caption = (
        f"{results['gpu'][0]['gpu']}, the bundled voice, mel and audio in GPU memory, medians of up to 20 "
        f"calls, {_versions(results)}, commit {results['commit']} ([results](benchmarks/results/{GPU}.json))."
    )
    return "\n\n".join(
        [table(head, rows), " ".join([caption, *(c.sentence for c in caveats(results, baselines=False))])]
    )


def comparison() -> str:
    """Return this engine beside PyTorch, alternating in one run."""
    results = load(GPU)
    run = results["gpu_duels"][0]
    rows = []
    for row in sorted(run["rows"], key=lambda row: -row["times_real_time"]):
        engine = row["contender"].startswith("this engine")
        name = ENTRIES.get(row["contender"], row["contender"])
        snr = "reference" if row["snr_db"] is None else f"{row['snr_db']:.0f} dB"
        cells = (
            f"{steps_of(row, results)}",
            row["conditioner"],
            milliseconds(row),
            f"{row['times_real_time']:.0f}",
            snr + _mark(row),
        )
        rows.append((f"**{name}**" if engine else name, *cells))
    machine = results["machine"]
    load_average, cores = machine["load_at_start"][0], machine["cores"]
    notes = [
        f"{run['items']} x {run['seconds']:g} s of audio, the engines alternate, {run['rounds']} rounds, "
        f"{_versions(results)}, commit {run['commit']} ([results](benchmarks/results/{GPU}.json)).",
        'Conditioner "once": computed outside the loop over steps.',
        "SNR: against this engine's fp32 audio.",
        "`torch.compile` was not measured.",
    ]
    if load_average > cores:
        notes.append(
            f"The load average was {load_average:.0f} on {cores} CPU cores at the start: more threads were runnable "
            "than there are cores. This can delay entries that launch each kernel from the CPU (LMNT's package), but "
            "not CUDA graphs."
        )
    notes += [caveat.sentence for caveat in caveats(results)]
    head = ("engine", "steps", "conditioner", "ms", "x real time", "SNR")
    return "\n\n".join([table(head, rows, align="lrl"), bullets(notes)])


def ratio_to(name: str) -> str:
    """Return how many times as fast this engine's fp16 is as an entry of ENTRIES: "9.8"."""
    rows = {row["contender"]: row["measured_seconds"]["p50"] for row in load(GPU)["gpu_duels"][0]["rows"]}
    return f"{rows[name] / rows['this engine, fp16']:.1f}"


def speed_of(precision: str, items: int = 1, seconds: float = 5.0) -> str:
    """Return the speed of one cell: "502x"."""
    cell = (precision, items, seconds)
    [row] = [row for row in load(GPU)["gpu"] if (row["precision"], row["items"], row["seconds"]) == cell]
    return f"{row['times_real_time']:.0f}x"


def peaks() -> str:
    """Return the GPU's own peaks of the same run."""
    rates = load(GPU)["gpu_peaks"]
    return f"{rates['bf16_tflops']:.0f} TFLOP/s in a bf16 product, {rates['copy_tbytes']:.2f} TB/s in a copy"


def milliseconds(row: dict[str, Any]) -> str:
    """Return the median with three digits, or all before the point."""
    value = 1e3 * row["measured_seconds"]["p50"]
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _mark(row: dict[str, Any]) -> str:
    return " \\*" * (row.get("passed") is False)


def _versions(results: Results) -> str:
    return f"PyTorch {results['versions']['torch']}, {results['date'][:10]}"
