"""What is measured on a GPU, and how it is said: beside the card's own peaks and what `roofline.py` predicted."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.report import PREDICTED
from engine.audio.metrics import snr
from engine.cli.bench.figures import quantiles

__all__ = ["Rows", "duel", "duel_rows", "event_seconds", "lines", "peaks", "row", "snr"]

MATRIX = 8192  # rows and columns
COPY_BYTES = 1 << 30
ENOUGH, LONG = 7, 2.0  # calls, and seconds after which no more than that are made
OWN = "this engine, "
FP32 = f"{OWN}fp32"
PEER_DB = {"tf32": 60.0, "fp16": 45.0}  # by precision: what a peer should reach, against this engine in fp32


class Rows(list[dict[str, Any]]):
    """The rows of one run, and what stands beside them.

    Attributes:
        peaks: see `peaks`.
        duels: of items and seconds, the rows of everybody.
        absent: who could not take part, and why.
    """

    peaks: dict[str, float] | None = None

    def __init__(self) -> None:
        super().__init__()
        self.duels: list[dict[str, Any]] = []
        self.absent: dict[str, str] = {}


def event_seconds(call: Callable[[], Any], warm_up: int, rounds: int) -> list[float]:
    """Seconds of each call on the current stream, from CUDA events around it; slow ones are called less often."""
    import torch

    for _ in range(warm_up):
        call()
    laps: list[float] = []
    while len(laps) < rounds and (len(laps) < ENOUGH or sum(laps) < LONG):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        call()
        end.record()
        end.synchronize()
        laps.append(begin.elapsed_time(end) / 1e3)
    return laps


def duel(contenders: Sequence[tuple[str, str, Callable[[], Any]]], warm_up: int, rounds: int) -> list[dict[str, Any]]:
    """Everybody's calls in turns: name, conditioner, audio as an array, laps in seconds."""
    found: list[dict[str, Any]] = []
    for name, conditioner, call in contenders:
        audio = call()
        found.append({"contender": name, "conditioner": conditioner, "audio": audio.float().cpu().numpy(), "laps": []})
    for _ in range(rounds):
        for one, (_, _, call) in zip(found, contenders, strict=True):
            one["laps"] += event_seconds(call, min(warm_up, 1), 1)
    return found


def duel_rows(
    found: Sequence[dict[str, Any]], audio_seconds: float, floors: Mapping[str, float] | None = None
) -> list[dict[str, Any]]:
    """For the report; the SNR is against this engine in fp32, None for itself.

    Args:
        found: from `duel`.
        audio_seconds: of one call.
        floors: by contender, the SNR that it must reach; without one `passed` is None.

    Raises:
        AssertionError: a precision of this engine does not reach its own. Any other contender is only marked.
    """
    expected = next(one["audio"] for one in found if one["contender"] == FP32)
    rows = []
    for one in found:
        spread = quantiles(one["laps"])
        row = {"contender": one["contender"], "conditioner": one["conditioner"], "measured_seconds": spread}
        row |= {"times_real_time": audio_seconds / spread["p50"]}
        row["snr_db"] = None if one["contender"] == FP32 else snr(expected, one["audio"])
        floor = (floors or {}).get(one["contender"])
        row["passed"] = None if floor is None or row["snr_db"] is None else row["snr_db"] >= floor
        if row["passed"] is False and one["contender"].startswith(OWN):
            raise AssertionError(f"{one['contender']}: {row['snr_db']:.1f} dB, at least {floor:g} expected")
        rows.append(row)
    return rows


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
    gpu: str,
    precision: str,
    items: int,
    seconds: float,
    audio_seconds: float,
    laps: Sequence[float],
    network: str = "BASE",
) -> dict[str, Any]:
    """One cell of the table; rtf is seconds of work per second of audio."""
    spread = quantiles(laps)
    return {
        "gpu": gpu,
        "network": network,
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
        if same == (found["items"], found["seconds"], found["precision"], found["network"]) and card in found["gpu"]:
            return float(one["predicted_seconds"])
    return None


def lines(rows: Rows, path: Path = PREDICTED) -> list[str]:
    """The table for the terminal."""
    made = [_line("GPU", "precision", "audio", "ms p50", "x real time", "predicted ms", "ratio")]
    for one in rows:
        expected, median = predicted(one, path), one["measured_seconds"]["p50"]
        audio = f"{one['items']} x {one['seconds']:g} s"
        precision = one["precision"] + (f" {one['network']}" if one["network"] != "BASE" else "")
        beside = ("-", "-") if expected is None else (f"{1e3 * expected:.2f}", f"{median / expected:.2f}")
        figures = (f"{1e3 * median:.2f}", f"{one['times_real_time']:.0f}")
        made.append(_line(one["gpu"], precision, audio, *figures, *beside))
    for one in rows.duels:
        made.append(f"in turns, {one['items']} x {one['seconds']:g} s:")
        for row in sorted(one["rows"], key=lambda row: -row["times_real_time"]):
            quality = "" if row["snr_db"] is None else f"{row['snr_db']:6.1f} dB"
            quality += ", fails its accuracy gate" * (row["passed"] is False)
            figures = f"{1e3 * row['measured_seconds']['p50']:9.2f} ms {row['times_real_time']:8.1f} x real time"
            made.append(f"  {row['contender']:<40}{figures}  conditioner {row['conditioner']:<11}{quality}")
    made += [f"absent: {name}: {why}" for name, why in rows.absent.items()]
    if rows.peaks:
        product, copy = rows.peaks["bf16_tflops"], rows.peaks["copy_tbytes"]
        made.append(f"peaks beside it: {product:.0f} TFLOP/s in a bf16 product of {MATRIX}, {copy:.2f} TB/s in a copy")
    return made


def _line(gpu: str, precision: str, *cells: str) -> str:
    widths = (10, 10, 13, 14, 7)
    return f"{gpu:<28.27}{precision:<11}" + "".join(f"{cell:>{w}}" for cell, w in zip(cells, widths, strict=True))
