"""Contenders take turns: a neighbour on the machine can halve any figure for minutes, so only rounds compare.

The peak is measured right before and after every call, and an accuracy gate goes first: a fast wrong answer is no
speed-up.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.report import EAGER
from engine.audio.metrics import snr
from engine.checks.arrays import FloatArray
from engine.cli.bench.figures import quantiles
from engine.config import Config
from tests.support.tolerances import relative_error

FP32, BF16 = "fp32", "bf16"
FP32_ERROR = 3e-4  # of the peak amplitude: what two orders of summation make of 6 steps
OWN_SNR = {BF16: 35.0, "int8": 20.0}  # dB, against fp32
PEER_SNR = {BF16: 25.0}


@dataclass(frozen=True)
class Contender:
    """Who takes part.

    Attributes:
        name: of the row.
        precision: of its arithmetic: which gate it must pass.
        call: the work that is timed; returns the audio [B,L].
        peak: measures the ceiling of that precision, multiply-accumulates per second; None where nothing can.
        every: it takes part in rounds 0, every, 2 * every, ...
        peer: not this engine.
        conditioner: computed "once" a call, or in "every step".
    """

    name: str
    precision: str
    call: Callable[[], FloatArray]
    peak: Callable[[], float] | None
    every: int = 1
    peer: bool = False
    conditioner: str = "once"


@dataclass(frozen=True)
class Lap:
    """One call: its seconds, and the peak beside it in multiply-accumulates per second, if there is one."""

    seconds: float
    peak: float | None


def gate(contenders: Sequence[Contender], audio: Mapping[str, FloatArray]) -> dict[str, dict[str, Any]]:
    """Compare everybody's audio, made from the same mels and noise, with that of this engine in fp32.

    Returns:
        by name: error, relative to the peak; snr_db, None for fp32 itself; passed, None where no gate is set.

    Raises:
        AssertionError: a precision of this engine, or PyTorch in fp32, does not pass. Any other peer is only marked.
    """
    found = {}
    for one in contenders:
        error, db = relative_error(audio[one.name], audio[FP32]), snr(audio[FP32], audio[one.name])
        floor = (PEER_SNR if one.peer else OWN_SNR).get(one.precision)
        passed = error < FP32_ERROR if one.precision == FP32 else None if floor is None else db >= floor
        assert passed is not False or (one.peer and one.name != EAGER), (
            f"{one.name} has an SNR of {db:.3g} dB against fp32 and differs by {error:.2g} of its peak"
        )
        found[one.name] = {"error": error, "snr_db": db if np.isfinite(db) else None, "passed": passed}
    return found


def run(contenders: Sequence[Contender], rounds: int) -> tuple[dict[str, dict[int, Lap]], dict[str, FloatArray]]:
    """Let everybody run once per round, another one first each time: who follows whom costs or saves some.

    Returns:
        the laps by name and round, and everybody's last audio.
    """
    laps: dict[str, dict[int, Lap]] = {one.name: {} for one in contenders}
    audio = {}
    for number in range(rounds):
        present = [one for one in contenders if number % one.every == 0]
        first = number % max(1, len(present))
        for one in present[first:] + present[:first]:
            before = one.peak() if one.peak else None
            begin = time.perf_counter()
            audio[one.name] = one.call()
            seconds = time.perf_counter() - begin
            laps[one.name][number] = Lap(seconds, (before + one.peak()) / 2 if one.peak and before else None)
    return laps, audio


def rows(
    contenders: Sequence[Contender],
    laps: Mapping[str, Mapping[int, Lap]],
    gated: Mapping[str, Mapping[str, Any]],
    work: float,
    audio_seconds: float,
) -> list[dict[str, Any]]:
    """A row of figures per contender, in their order.

    Args:
        contenders: who took part.
        laps: from `run`.
        gated: from `gate`.
        work: multiply-accumulates of the residual layers in one call.
        audio_seconds: of one call.
    """
    table = []
    for one in contenders:
        own = laps[one.name]
        both = [number for number in own if number in laps[EAGER]]
        peaks = [lap for lap in own.values() if lap.peak]
        table.append(
            {
                "contender": one.name,
                "precision": one.precision,
                "peer": one.peer,
                "conditioner": one.conditioner,
                "rounds": len(own),
                "audio_seconds": audio_seconds * len(own),
                "work_seconds": sum(lap.seconds for lap in own.values()),
                "seconds": quantiles([lap.seconds for lap in own.values()]),
                "peak_gflops": quantiles([2e-9 * lap.peak for lap in peaks]) if peaks else None,
                "share_of_peak": quantiles([work / lap.seconds / lap.peak for lap in peaks]) if peaks else None,
                "times_eager": quantiles([laps[EAGER][n].seconds / own[n].seconds for n in both]),
                **gated[one.name],
            }
        )
    return table


def layer_work(config: Config, steps: int, samples: int) -> float:
    """Multiply-accumulates of the residual layers alone: 3 taps of C x 2C and one C x 2C per layer and sample."""
    return float(steps * config.residual_layers * 8 * config.residual_channels**2 * samples)
