"""Timing on a GPU: single calls, alternating engines, and the measured peaks of the GPU."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.committed import Row
from engine.audio.metrics import snr
from engine.checks.arrays import FloatArray
from engine.cli.bench.figures import quantiles

MATRIX = 8192  # rows and columns
COPY_BYTES = 1 << 30
ENOUGH, LONG = 7, 2.0  # calls of any duration; further ones only until this many seconds have passed
ENGINE = "this engine, "
FP32 = f"{ENGINE}fp32"
Clock = Callable[[Callable[[], Any], int, int], list[float]]
BASELINE_SNR = {"tf32": 60.0, "fp16": 45.0}  # dB by precision, against this engine's fp32


class Rows(list[Row]):
    """The rows of one run.

    Attributes:
        peaks: see `peaks`.
        comparisons: the rows of all entries by items and seconds.
        absent: baselines that cannot run, and why.
    """

    peaks: dict[str, float] | None = None

    def __init__(self) -> None:
        super().__init__()
        self.comparisons: list[Row] = []
        self.absent: dict[str, str] = {}


@dataclass(frozen=True)
class Entry:
    """One engine in one precision.

    Attributes:
        name: title of its row; begins with ENGINE for this engine.
        conditioner: when it is computed, "once" or in "every step".
        call: the timed work; returns audio [B,L] on the GPU.
    """

    name: str
    conditioner: str
    call: Callable[[], Any]


@dataclass(frozen=True, eq=False)
class Timed:
    """An entry's audio and times.

    Attributes:
        entry: the timed entry.
        audio: audio [B,L] of a first call.
        seconds: duration of the call in each round.
    """

    entry: Entry
    audio: FloatArray
    seconds: list[float]


def event_seconds(call: Callable[[], Any], warm_up: int, rounds: int) -> list[float]:
    """Time calls on the current stream with CUDA events.

    Args:
        call: the timed work.
        warm_up: calls before the first timed one.
        rounds: timed calls; fewer if they are slow.
    """
    import torch

    for _ in range(warm_up):
        call()
    seconds: list[float] = []
    while len(seconds) < rounds and (len(seconds) < ENOUGH or sum(seconds) < LONG):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        call()
        end.record()
        end.synchronize()
        seconds.append(begin.elapsed_time(end) / 1e3)
    return seconds


def host_seconds(call: Callable[[], Any], warm_up: int, rounds: int) -> list[float]:
    """Time calls with the clock of the host until they return; on a GPU, before their work is done.

    Args:
        call: the timed work.
        warm_up: calls before the first timed one.
        rounds: timed calls.
    """
    for _ in range(warm_up):
        call()
    seconds = []
    for _ in range(rounds):
        begin = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - begin)
    return seconds


def compare(entries: Sequence[Entry], warm_up: int, rounds: int) -> list[Timed]:
    """Time all entries alternately, after a first call of each for its audio."""
    results = [first_call(entry) for entry in entries]
    for _ in range(rounds):
        run_round(results, warm_up, event_seconds)
    return results


def first_call(entry: Entry) -> Timed:
    """Return an entry with its audio and no times."""
    audio: FloatArray = entry.call().float().cpu().numpy()
    return Timed(entry, audio, [])


def run_round(results: Sequence[Timed], warm_up: int, clock: Clock) -> None:
    """Time every entry once, in their order.

    Args:
        results: the entries; a time is appended to each.
        warm_up: whether a call goes before the timed one, 1 or 0.
        clock: `event_seconds`, or `host_seconds` without a GPU.
    """
    for result in results:
        result.seconds.extend(clock(result.entry.call, min(warm_up, 1), 1))


def comparison_rows(
    results: Sequence[Timed], audio_seconds: float, floors: Mapping[str, float] | None = None
) -> list[Row]:
    """Return a row of figures per entry; the SNR is against this engine's fp32, None for fp32 itself.

    Args:
        results: result of `compare`.
        audio_seconds: seconds of audio from one call.
        floors: the least SNR by entry; without one `passed` is None.

    Raises:
        AssertionError: a precision of this engine fails. Baselines are only marked.
    """
    expected = next(result.audio for result in results if result.entry.name == FP32)
    rows = []
    for result in results:
        name, spread = result.entry.name, quantiles(result.seconds)
        db = None if name == FP32 else snr(expected, result.audio)
        floor = (floors or {}).get(name)
        passed = None if floor is None or db is None else bool(db >= floor)
        if passed is False and name.startswith(ENGINE):
            raise AssertionError(f"{name}: expected an SNR of at least {floor:g} dB, got {db:.1f} dB")
        rows.append(
            {
                "contender": name,
                "conditioner": result.entry.conditioner,
                "measured_seconds": spread,
                "times_real_time": audio_seconds / spread["p50"],
                "snr_db": db,
                "passed": passed,
            }
        )
    return rows


def peaks() -> dict[str, float]:
    """Measure a bf16 matrix product on random data in TFLOP/s, and a device copy (read and written) in TB/s."""
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
    times: Sequence[float],
    network: str = "BASE",
) -> Row:
    """Return the figures of one cell of the table; rtf is seconds of work per second of audio.

    Args:
        gpu: name that PyTorch gives it.
        precision: precision of the arithmetic.
        items: number of items in the batch.
        seconds: requested duration of each item.
        audio_seconds: seconds of audio of the batch, in whole frames.
        times: seconds of each call.
        network: "BASE" or "LARGE".
    """
    spread = quantiles(times)
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
