"""Unconditional and labeled generation: the networks, the accuracy gate and the rows of the report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import torch

from benchmarks.committed import Row
from benchmarks.cpu import compare
from engine import Voice
from engine.checkpoint.load import Checkpoint
from engine.cli.bench.figures import quantiles
from engine.config import SC09, SC09_THIN, Config
from engine.diffusion.noise import normal
from engine.diffusion.schedule import build_schedule
from engine.kernels import reference, registry
from tests.support.networks import random_network
from tests.support.tolerances import TOLERANCES, relative_error

DIGITS = tuple("0123456789")
NETWORKS = {
    "SC09": SC09,
    "SC09, classes": replace(SC09, classes=DIGITS),
    "SC09, deep and thin": SC09_THIN,
}
STEPS, SEED = 6, 1
GATED = 200  # samples that the gate checks: the reference holds all rows of a layer in PyTorch


def network(name: str, channels: int | None = None) -> Config:
    """Return one of NETWORKS, with another number of channels if requested."""
    return NETWORKS[name] if channels is None else replace(NETWORKS[name], residual_channels=channels)


@cache
def weights(config: Config) -> Any:
    """Return random weights; the time does not depend on them."""
    return random_network(config, 1)


def voice(config: Config, precision: str, threads: int) -> Voice:
    """Return a voice on the CPU.

    Raises:
        UnavailableError: this machine lacks the precision.
    """
    return Voice(Checkpoint(config, weights(config)), registry.select("cpu", precision), threads)


def labels_of(config: Config, n: int) -> list[str] | None:
    """Return different labels for n clips, or None for a network without classes."""
    return [config.classes[i % len(config.classes)] for i in range(n)] if config.classes else None


def gate(voices: Mapping[str, Voice], config: Config, samples: int = GATED) -> dict[str, float]:
    """Check the audio of every precision against the reference.

    Returns:
        The error by precision, relative to the peak.

    Raises:
        AssertionError: a precision fails.
    """
    plan = build_schedule(config, STEPS)
    noise = [np.stack([normal(seed, n, 0, samples) for seed in (SEED, SEED + 1)]) for n in range(len(plan))]
    x_T, *z = map(torch.from_numpy, noise)
    labels = labels_of(config, 2)
    numbers = None if labels is None else torch.tensor([config.classes.index(label) for label in labels])
    tensors = reference.to_tensors(weights(config), torch.float32)
    with torch.inference_mode():
        expected = reference.sample(tensors, config, None, plan, x_T, torch.stack(z), labels=numbers)
    errors = {}
    for precision, candidate in voices.items():
        audio = candidate.generate(n=2, label=labels, samples=samples, steps=STEPS, seed=SEED)
        errors[precision] = relative_error(audio, expected)
        limit = compare.FP32_ERROR if precision == compare.FP32 else TOLERANCES[f"network_audio_{precision}"]
        assert errors[precision] < limit, f"{precision} differs from PyTorch by {errors[precision]:.2g} of its peak"
    return errors


def row(
    name: str, precision: str, timings: Sequence[compare.Timing], work: float, audio_seconds: float, error: float
) -> Row:
    """Return the figures of one network in one precision.

    Args:
        name: name of the network.
        precision: precision of its arithmetic.
        timings: timings of all rounds, each with a peak.
        work: multiply-accumulates of the residual layers in one call.
        audio_seconds: seconds of audio from one call.
        error: relative error from `gate`.
    """
    measured = [(timing.seconds, timing.peak) for timing in timings if timing.peak]
    return {
        "network": name,
        "contender": precision,
        "rounds": len(timings),
        "audio_seconds": audio_seconds * len(timings),
        "work_seconds": sum(timing.seconds for timing in timings),
        "seconds": quantiles([timing.seconds for timing in timings]),
        "peak_gflops": quantiles([2e-9 * peak for _, peak in measured]),
        "share_of_peak": quantiles([work / seconds / peak for seconds, peak in measured]),
        "error": error,
    }


def lines(rows: Sequence[Row]) -> Iterator[str]:
    """Yield the lines for the terminal."""
    yield f"{STEPS} steps, random weights; error: against PyTorch; share: of the peak beside each call (median)"
    for figures in rows:
        factor = figures["work_seconds"] / figures["audio_seconds"]
        yield (
            f"  {figures['network']:<20} {figures['contender']:<5} RTF {factor:6.2f}  "
            f"{figures['seconds']['p50']:7.2f} s a call  share {figures['share_of_peak']['p50']:4.0%}  "
            f"peak {figures['peak_gflops']['p50']:5.0f} GFLOP/s  error {figures['error']:.1e}"
        )
