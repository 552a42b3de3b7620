"""Runs of the CPU sampling loop on one item, for tests of the kernels."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from engine.diffusion.schedule import update_terms
from engine.sampling.cpu import pipeline
from engine.sampling.cpu.pipeline import StepPipeline, steps_of
from engine.sampling.item import Item


def audio_of(net: Any, item: Item, plan: Any, d: Any, threads: int = 1) -> Any:
    """Sample the audio [L] of an item; d [S,N,C] are the step biases of its schedule."""
    out = np.full(item.length, np.nan, np.float32)
    pipeline.sample(net, item, steps_of(update_terms(net.config, plan), d, net.config.clamp), threads, out)
    return out


def evaluated(net: Any, x: Any, mel: Any, d: Any, threads: int = 1, label: int | None = None) -> Any:
    """Evaluate the network once at x [L]; d is [1,N,C]."""
    step = steps_of(np.array([[0.0, 1.0, 0.0]]), d, clamp=False)
    return pipeline.predict_noise(net, Item(len(x), mel, x=x, label=label), step, threads)


def run(sweep: Any, steps: int, length: int, config: Any) -> None:
    """Run all tiles of one sweep, in their order."""
    network: Any = SimpleNamespace(config=config)
    steps_in_flight = StepPipeline(network, [(sweep, steps)], length)
    while steps_in_flight.advance():
        pass
