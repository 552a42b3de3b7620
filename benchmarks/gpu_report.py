"""What is measured on a GPU, and how it is said: beside the card's own peaks and what `roofline.py` predicted."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from report import PREDICTED

from engine.bench.figures import quantiles
from engine.report import snr

__all__ = ["Rows", "event_seconds", "lines", "peaks", "row", "snr"]

MATRIX = 8192  # rows and columns
COPY_BYTES = 1 << 30


class Rows(list[dict[str, Any]]):
    """The rows of one run, and the peaks beside them."""

    peaks: dict[str, float] | None = None


def event_seconds(call: Callable[[], Any], warm_up: int, rounds: int) -> list[float]:
    """Seconds of each call on the current stream, from CUDA events around it."""
    import torch

    for _ in range(warm_up):
        call()
    laps = []
    for _ in range(rounds):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        call()
        end.record()
        end.synchronize()
        laps.append(begin.elapsed_time(end) / 1e3)
    return laps


def peaks() -> dict[str, float]:
    """Of a bf16 matrix product on random data, in TFLOP/s, and of a device copy, bytes read and written, in TB/s."""
    import torch

    a, b = (torch.randn(MATRIX, MATRIX, dtype=torch.bfloat16, device="cuda") for _ in range(2))
    source = torch.randint(0, 255, (COPY_BYTES,), dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    product = quantiles(event_seconds(lambda: a @ b, 3, 10))["p50"]
    copy = quantiles(event_seconds(lambda: target.copy_(source), 3, 10))["p50"]
    return {"bf16_tflops": 2 * MATRIX**3 / product / 1e12, "copy_tbytes": 2 * COPY_BYTES / copy / 1e12}


def row(
    gpu: str, precision: str, items: int, seconds: float, audio_seconds: float, laps: Sequence[float]
) -> dict[str, Any]:
    """One cell of the table; rtf is seconds of work per second of audio."""
    spread = quantiles(laps)
    return {
        "gpu": gpu,
        "precision": precision,
        "items": items,
        "seconds": seconds,
        "measured_seconds": spread,
        "rtf": spread["p50"] / audio_seconds,
        "times_real_time": audio_seconds / spread["p50"],
    }


def predicted(found: dict[str, Any], path: Path = PREDICTED) -> float | None:
    """The prediction for the same cell in seconds; None where nothing was predicted."""
    rows = json.loads(path.read_text())["rows"] if path.is_file() else []
    for one in rows:
        same = (one["items"], one["seconds"], one.get("precision", "fp16"), one.get("network", "BASE"))
        card = one["gpu"].split("-")[0].removeprefix("RTX").strip()
        if same == (found["items"], found["seconds"], found["precision"], "BASE") and card in found["gpu"]:
            return float(one["predicted_seconds"])
    return None


def lines(rows: Rows, path: Path = PREDICTED) -> list[str]:
    """The table for the terminal."""
    made = [_line("GPU", "precision", "audio", "ms p50", "x real time", "predicted ms", "ratio")]
    for one in rows:
        expected, median = predicted(one, path), one["measured_seconds"]["p50"]
        audio = f"{one['items']} x {one['seconds']:g} s"
        beside = ("-", "-") if expected is None else (f"{1e3 * expected:.2f}", f"{median / expected:.2f}")
        figures = (f"{1e3 * median:.2f}", f"{one['times_real_time']:.0f}")
        made.append(_line(one["gpu"], one["precision"], audio, *figures, *beside))
    if rows.peaks:
        product, copy = rows.peaks["bf16_tflops"], rows.peaks["copy_tbytes"]
        made.append(f"peaks beside it: {product:.0f} TFLOP/s in a bf16 product of {MATRIX}, {copy:.2f} TB/s in a copy")
    return made


def _line(gpu: str, precision: str, *cells: str) -> str:
    widths = (10, 10, 13, 14, 7)
    return f"{gpu:<28.27}{precision:<11}" + "".join(f"{cell:>{w}}" for cell, w in zip(cells, widths, strict=True))
