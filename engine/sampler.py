"""The T-step loop: which tile of which step runs next. The arithmetic is the backend's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from engine.config import Config
from engine.schedule import Schedule

Array = npt.NDArray[np.float32]
Progress = Callable[[float], None]

# Steps that travel through time together. Each costs reach rows of projected conditioner per layer; only x crosses
# from one sweep to the next.
STEPS_PER_SWEEP = 6


class Sweep(Protocol):
    """See `engine.kernels.cpu.Sweep`."""

    tile: int

    def advance(self, step: int, begin: int) -> None:
        """Advance one step by one tile through all layers."""


class Network(Protocol):
    """What the loop needs of a backend: see `engine.kernels.cpu.CpuNetwork`."""

    config: Config

    def normal(self, seed: int, step: int, begin: int, count: int) -> Array:
        """`engine.noise.normal`."""

    def sweep(
        self,
        x: Array,
        mel: Array | None,
        d: Array,
        coefficients: Array,
        *,
        clamp: bool,
        threads: int,
        noise: Array | None = ...,
        scale: Array | None = ...,
        seed: int = ...,
        noise_step: int = ...,
    ) -> Sweep:
        """Prepare up to STEPS_PER_SWEEP steps over x."""


@dataclass(frozen=True, eq=False)
class Item:
    """One utterance: where it starts, and the noise that its steps add.

    Attributes:
        x: [L] float32, C-contiguous: x_T, which becomes the audio.
        mel: [M,T] float32, or None.
        seed: of the added noise.
        noise: z [S-1,L] to be used instead, in the order of execution.
        scale: [L], the standard deviation of every sample's noise; None for 1. x is scaled already.
    """

    x: Array
    mel: Array | None
    seed: int = 0
    noise: Array | None = None
    scale: Array | None = None


def sample(
    network: Network, item: Item, schedule: Schedule, d: Array, threads: int, progress: Progress | None = None
) -> Array:
    """The reverse process (paper, algorithm 2) over one utterance, in place.

    Args:
        network: of a backend.
        item: the utterance.
        schedule: S steps.
        d: [S,N,C] the step biases.
        threads: how many share a tile.
        progress: called with the fraction done, 0 to 1, after every tile.

    Returns:
        item.x, the audio [L].
    """
    terms = np.array([schedule.a, schedule.b, schedule.sigma]).T.astype(np.float32)
    steps = len(schedule)
    for first in range(0, steps, STEPS_PER_SWEEP):
        part = slice(first, min(first + STEPS_PER_SWEEP, steps))
        sweep = network.sweep(
            item.x,
            item.mel,
            np.ascontiguousarray(d[part], dtype=np.float32),
            terms[part],
            clamp=network.config.clamp,
            threads=threads,
            noise=None if item.noise is None else np.ascontiguousarray(item.noise[part]),
            scale=item.scale,
            seed=item.seed,
            noise_step=first + 1,
        )
        share = (part.stop - first) / steps
        run(sweep, part.stop - first, len(item.x), network.config.reach, progress, first / steps, share)
    return item.x


def predict_noise(network: Network, item: Item, d: Array, threads: int) -> Array:
    """One evaluation of the network: item.x becomes eps [L]; d [1,N,C]."""
    terms = np.array([[0.0, 1.0, 0.0]], dtype=np.float32)
    sweep = network.sweep(item.x, item.mel, d.astype(np.float32), terms, clamp=False, threads=threads)
    run(sweep, 1, len(item.x), network.config.reach)
    return item.x


def run(
    sweep: Sweep,
    steps: int,
    length: int,
    reach: int,
    progress: Progress | None = None,
    done: float = 0.0,
    share: float = 1.0,
) -> None:
    """Send tiles of time through all steps of a sweep, step s one reach behind step s - 1."""
    end = length + steps * reach
    for begin in range(0, end, sweep.tile):
        for step in range(steps):
            at = begin - step * reach
            if -sweep.tile < at < length + reach:
                sweep.advance(step, at)
        if progress is not None:
            progress(done + share * min(1.0, (begin + sweep.tile) / end))
