"""Clips from nothing as they are timed: the networks, the accuracy gate and the rows of the report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import torch

from benchmarks import duel
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
# Samples that the gate looks at: the reference holds all rows of a layer, in PyTorch.
GATED = 200


def network(name: str, channels: int | None = None) -> Config:
    """One of NETWORKS, or the same with fewer channels."""
    return NETWORKS[name] if channels is None else replace(NETWORKS[name], residual_channels=channels)


@cache
def weights(config: Config) -> Any:
    """Random; the time does not depend on them."""
    return random_network(config, 1)


def voice(config: Config, precision: str, threads: int) -> Voice:
    """On the CPU; raises UnavailableError."""
    return Voice(Checkpoint(config, weights(config)), registry.select("cpu", precision), threads)


def labels_of(config: Config, n: int) -> list[str] | None:
    """Different ones side by side, for a network with classes."""
    return [config.classes[i % len(config.classes)] for i in range(n)] if config.classes else None


def gate(voices: Mapping[str, Voice], config: Config, samples: int = GATED) -> dict[str, float]:
    """Every precision's error against the reference, relative to its peak; AssertionError where one is wrong."""
    plan = build_schedule(config, STEPS)
    noise = [np.stack([normal(seed, n, 0, samples) for seed in (SEED, SEED + 1)]) for n in range(len(plan))]
    x_T, *z = map(torch.from_numpy, noise)
    labels = labels_of(config, 2)
    numbers = None if labels is None else torch.tensor([config.classes.index(one) for one in labels])
    tensors = reference.to_tensors(weights(config), torch.float32)
    with torch.inference_mode():
        expected = reference.sample(tensors, config, None, plan, x_T, torch.stack(z), labels=numbers)
    errors = {}
    for precision, one in voices.items():
        audio = one.generate(2, labels, samples=samples, steps=STEPS, seed=SEED)
        errors[precision] = relative_error(audio, expected)
        limit = duel.FP32_ERROR if precision == duel.FP32 else TOLERANCES[f"network_audio_{precision}"]
        assert errors[precision] < limit, f"{precision} differs from PyTorch by {errors[precision]:.2g} of its peak"
    return errors


def row(name: str, precision: str, laps: Sequence[duel.Lap], work: float, audio_seconds: float, error: float) -> Any:
    """The figures of one network in one precision; work and audio are of one call."""
    return {
        "network": name,
        "contender": precision,
        "rounds": len(laps),
        "audio_seconds": audio_seconds * len(laps),
        "work_seconds": sum(lap.seconds for lap in laps),
        "seconds": quantiles([lap.seconds for lap in laps]),
        "peak_gflops": quantiles([2e-9 * lap.peak for lap in laps]),
        "share_of_peak": quantiles([work / lap.seconds / lap.peak for lap in laps]),
        "error": error,
    }


def lines(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Of the report."""
    yield f"{STEPS} steps, random weights; error against PyTorch; share of the peak beside each call, median"
    for one in rows:
        factor = one["work_seconds"] / one["audio_seconds"]
        yield (
            f"  {one['network']:<20} {one['contender']:<5} RTF {factor:6.2f}  {one['seconds']['p50']:7.2f} s a call  "
            f"share {one['share_of_peak']['p50']:4.0%}  peak {one['peak_gflops']['p50']:5.0f} GFLOP/s  "
            f"error {one['error']:.1e}"
        )
