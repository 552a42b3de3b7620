"""Comparison of engines that alternate: a neighbor on the machine can halve any figure for minutes.

The peak is measured right before and after every call. The accuracy gate runs first: a fast wrong answer is no
speed-up.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.committed import EAGER, Row
from engine.audio.metrics import snr
from engine.checks.arrays import FloatArray
from engine.cli.bench.figures import quantiles
from engine.config import Config
from tests.support.tolerances import relative_error

FP32, BF16 = "fp32", "bf16"
FP32_ERROR = 3e-4  # relative to the peak amplitude: two orders of summation over 6 steps
ENGINE_SNR = {BF16: 35.0, "int8": 20.0}  # dB against fp32, at least
BASELINE_SNR = {BF16: 25.0}


@dataclass(frozen=True)
class Entry:
    """One engine in one precision.

    Attributes:
        name: title of its row.
        precision: precision of its arithmetic; selects the accuracy gate.
        call: the timed work; returns audio [B,L].
        peak: function that measures the peak of that precision in multiply-accumulates per second; None where it cannot
            be measured.
        every: distance between its rounds: it runs in rounds 0, every, 2 * every, ...
        baseline: whether it is not this engine.
        conditioner: when it is computed, "once" per call or in "every step".
    """

    name: str
    precision: str
    call: Callable[[], FloatArray]
    peak: Callable[[], float] | None
    every: int = 1
    baseline: bool = False
    conditioner: str = "once"


@dataclass(frozen=True)
class Timing:
    """One call.

    Attributes:
        seconds: wall time.
        peak: mean of the peaks before and after, in multiply-accumulates per second; None where not measured.
    """

    seconds: float
    peak: float | None


def gate(entries: Sequence[Entry], audio: Mapping[str, FloatArray]) -> dict[str, Row]:
    """Check the audio of all entries, computed from the same mels and noise, against this engine's fp32.

    Args:
        entries: this engine's fp32 among them.
        audio: [B,L] by entry.

    Returns:
        By entry: error, relative to the peak; snr_db, None for fp32 itself; passed, None where no gate is set.

    Raises:
        AssertionError: a precision of this engine or PyTorch fp32 fails. Other baselines are only marked.
    """
    results = {}
    for entry in entries:
        error, db = relative_error(audio[entry.name], audio[FP32]), snr(audio[FP32], audio[entry.name])
        floor = (BASELINE_SNR if entry.baseline else ENGINE_SNR).get(entry.precision)
        passed = error < FP32_ERROR if entry.precision == FP32 else None if floor is None else db >= floor
        assert passed is not False or (entry.baseline and entry.name != EAGER), (
            f"{entry.name} has an SNR of {db:.3g} dB against fp32 and differs by {error:.2g} of its peak"
        )
        results[entry.name] = {"error": error, "snr_db": db if np.isfinite(db) else None, "passed": passed}
    return results


def run(entries: Sequence[Entry], rounds: int) -> tuple[dict[str, dict[int, Timing]], dict[str, FloatArray]]:
    """Run every entry once per round, in an order that rotates: an entry's predecessor affects its time.

    Args:
        entries: entries in the order of the first round; each round rotates it by one.
        rounds: number of rounds.

    Returns:
        The timings by entry and round, and each entry's last audio.
    """
    timings: dict[str, dict[int, Timing]] = {entry.name: {} for entry in entries}
    audio = {}
    for number in range(rounds):
        present = [entry for entry in entries if number % entry.every == 0]
        first = number % max(1, len(present))
        for entry in present[first:] + present[:first]:
            before = entry.peak() if entry.peak else None
            begin = time.perf_counter()
            audio[entry.name] = entry.call()
            seconds = time.perf_counter() - begin
            peak = (before + entry.peak()) / 2 if entry.peak and before else None
            timings[entry.name][number] = Timing(seconds, peak)
    return timings, audio


def rows(
    entries: Sequence[Entry],
    timings: Mapping[str, Mapping[int, Timing]],
    accuracy: Mapping[str, Row],
    work: float,
    audio_seconds: float,
) -> list[Row]:
    """Return a row of figures per entry; only rounds that PyTorch shares enter the speed-up over it.

    Args:
        entries: entries in the order of the rows.
        timings: result of `run`.
        accuracy: result of `gate`.
        work: multiply-accumulates of the residual layers in one call.
        audio_seconds: seconds of audio from one call.
    """
    eager, table = timings[EAGER], []
    for entry in entries:
        calls = timings[entry.name]
        peaks = [(timing.seconds, timing.peak) for timing in calls.values() if timing.peak]
        table.append(
            {
                "contender": entry.name,
                "precision": entry.precision,
                "peer": entry.baseline,
                "conditioner": entry.conditioner,
                "rounds": len(calls),
                "audio_seconds": audio_seconds * len(calls),
                "work_seconds": sum(timing.seconds for timing in calls.values()),
                "seconds": quantiles([timing.seconds for timing in calls.values()]),
                "peak_gflops": quantiles([2e-9 * peak for _, peak in peaks]) if peaks else None,
                "share_of_peak": quantiles([work / seconds / peak for seconds, peak in peaks]) if peaks else None,
                "times_eager": quantiles([eager[n].seconds / calls[n].seconds for n in calls if n in eager]),
                **accuracy[entry.name],
            }
        )
    return table


def layer_work(config: Config, steps: int, samples: int) -> float:
    """Return the multiply-accumulates of the residual layers: 3 taps of C x 2C and one C x 2C per layer and sample."""
    return float(steps * config.residual_layers * 8 * config.residual_channels**2 * samples)
