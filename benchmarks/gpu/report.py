"""The report of a run on a GPU, beside the card's own peaks and the prediction of `roofline.py`."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.committed import PREDICTED, Row
from benchmarks.gpu.timing import MATRIX, Rows


def predicted(row: Row, path: Path = PREDICTED) -> float | None:
    """Return the prediction of a measured row's cell in seconds; None where there is none."""
    cells = json.loads(path.read_text())["rows"] if path.is_file() else []
    for cell in cells:
        key = (cell["items"], cell["seconds"], cell.get("precision", "fp16"), cell.get("network", "BASE"))
        card = cell["gpu"].split("-")[0].removeprefix("RTX").strip()
        if key == (row["items"], row["seconds"], row["precision"], row["network"]) and card in row["gpu"]:
            return float(cell["predicted_seconds"])
    return None


def lines(rows: Rows, path: Path = PREDICTED) -> list[str]:
    """Return the lines for the terminal."""
    output = [_line("GPU", "precision", "audio", "ms (median)", "x real time", "predicted ms", "ratio")]
    for row in rows:
        expected, median = predicted(row, path), row["measured_seconds"]["p50"]
        audio = f"{row['items']} x {row['seconds']:g} s"
        precision = row["precision"] + (f" {row['network']}" if row["network"] != "BASE" else "")
        beside = ("-", "-") if expected is None else (f"{1e3 * expected:.2f}", f"{median / expected:.2f}")
        output.append(
            _line(row["gpu"], precision, audio, f"{1e3 * median:.2f}", f"{row['times_real_time']:.0f}", *beside)
        )
    for comparison in rows.comparisons:
        output.append(f"comparison (engines alternate), {comparison['items']} x {comparison['seconds']:g} s:")
        output += [_entry(row) for row in sorted(comparison["rows"], key=lambda row: -row["times_real_time"])]
    output += [f"absent: {name}: {reason}" for name, reason in rows.absent.items()]
    if rows.peaks:
        product, copy = rows.peaks["bf16_tflops"], rows.peaks["copy_tbytes"]
        output.append(f"peaks: {product:.0f} TFLOP/s in a bf16 product of {MATRIX}, {copy:.2f} TB/s in a copy")
    return output


def _entry(row: Row) -> str:
    quality = "" if row["snr_db"] is None else f"{row['snr_db']:6.1f} dB"
    quality += ", fails its accuracy gate" * (row["passed"] is False)
    figures = f"{1e3 * row['measured_seconds']['p50']:9.2f} ms {row['times_real_time']:8.1f} x real time"
    return f"  {row['contender']:<40}{figures}  conditioner {row['conditioner']:<11}{quality}"


def _line(gpu: str, precision: str, *cells: str) -> str:
    widths = (10, 12, 13, 14, 7)
    return f"{gpu:<28.27}{precision:<11}" + "".join(f"{cell:>{w}}" for cell, w in zip(cells, widths, strict=True))
