"""The T-step loop: which tile of which step runs next. The arithmetic is the backend's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from engine.checks.arrays import FloatArray
from engine.errors import Cancelled
from engine.sampling.item import Item, Progress

if TYPE_CHECKING:
    from engine.kernels.cpu import CpuNetwork, Sweep

# Steps that travel through time in one sweep and share its conditioner, which costs reach rows per layer and step.
STEPS_PER_SWEEP = 6
# Bytes that the sweeps of one utterance may hold at a time: where it is short, fewer steps share a conditioner.
WORKING_MEMORY = 384 << 20
UNIT = 12  # rows of a tile come in multiples of it
BLOCK = 1 << 20  # samples of noise drawn at once


@dataclass(frozen=True, eq=False)
class Steps:
    """The steps of a schedule, as sweeps take them.

    Attributes:
        terms: [S,3] a, b and sigma: ``x <- a x + b eps + sigma z`` (`engine.diffusion.schedule.update_terms`).
        d: [S,N,C] the step biases.
        clamp: limit x to [-1,1] after every step.
        first: the number of the first of them in its schedule.
    """

    terms: FloatArray
    d: FloatArray
    clamp: bool
    first: int = 0

    def __len__(self) -> int:
        return len(self.terms)

    def part(self, begin: int, end: int) -> Steps:
        """Steps begin .. end - 1."""
        return Steps(self.terms[begin:end], self.d[begin:end], self.clamp, self.first + begin)


def steps_of(terms: npt.NDArray[np.floating], d: npt.NDArray[np.floating], clamp: bool) -> Steps:
    """All steps of a schedule: `engine.diffusion.schedule.update_terms` [S,3], d [S,N,C]."""
    coefficients, biases = (np.ascontiguousarray(values, dtype=np.float32) for values in (terms, d))
    return Steps(coefficients, biases, clamp)


class StepPipeline:
    """Steps on their way through time together, step s one reach behind step s - 1.

    Attributes:
        network: whose steps they are.
        sweeps: that the steps are spread over, in order.
        length: of the audio in samples; None while it is not known.
        lag: how far the audio is behind the first step.
        mel_lag: how far the last sweep, which reads the mel for itself, is behind the first.
        tile: the most samples that advance at once.
        begin: the first step has taken in the samples before this one.
    """

    def __init__(self, network: CpuNetwork, sweeps: Sequence[tuple[Sweep, int]], length: int | None) -> None:
        reach = network.config.reach
        self.network = network
        self.sweeps = [sweep for sweep, _ in sweeps]
        self._steps = [(sweep, step) for sweep, count in sweeps for step in range(count)]
        self._reach = reach
        self.length = length
        self.lag = len(self._steps) * reach
        self.mel_lag = self.lag - sweeps[-1][1] * reach
        self.tile = self.sweeps[0].tile
        self.begin = 0

    @property
    def final(self) -> int:
        """The samples before this one have gone through all steps."""
        final = max(self.begin - self.lag, 0)
        return final if self.length is None else min(final, self.length)

    def end(self, length: int) -> None:
        """The length becomes known; `begin` is not past it."""
        for sweep in self.sweeps:
            sweep.end(length)
        self.length = length

    def advance(self, available: int | None = None, cancelled: Callable[[], bool] | None = None) -> bool:
        """Send one tile through all steps. False when there is none to send.

        Args:
            available: while the length is not known, the samples before this one can be taken in.
            cancelled: asked before every step.

        Raises:
            Cancelled: it was; the pipeline is over.
        """
        rows = self._rows(available)
        if rows < UNIT:
            return False
        for number, (sweep, step) in enumerate(self._steps):
            at = self.begin - number * self._reach
            if -rows < at and (self.length is None or at < self.length + self._reach):
                if cancelled is not None and cancelled():
                    raise Cancelled("the audio was cancelled")
                sweep.advance(step, at, rows)
        self.begin += rows
        return True

    def _rows(self, available: int | None) -> int:
        if self.length is not None:
            left = self.length + self.lag - self.begin
            return min(-(-left // UNIT) * UNIT, self.tile)
        assert available is not None
        return min((available - self.begin) // UNIT * UNIT, self.tile)


def start_pipeline(
    network: CpuNetwork,
    steps: Steps,
    threads: int,
    seed: int,
    length: int | None,
    per_sweep: int,
    label: int | None = None,
) -> StepPipeline:
    """A pipeline of these steps, at its beginning."""
    sweeps = []
    for first in range(0, len(steps), per_sweep):
        part = steps.part(first, min(first + per_sweep, len(steps)))
        sweep = network.sweep(
            part.d,
            part.terms,
            clamp=part.clamp,
            threads=threads,
            length=length,
            seed=seed,
            noise_step=part.first + 1,
            label=label,
        )
        sweeps.append((sweep, len(part)))
    return StepPipeline(network, sweeps, length)


def steps_per_sweep(network: CpuNetwork, steps: int, threads: int, length: int | None, at_once: bool) -> int:
    """The most steps that may share a conditioner within WORKING_MEMORY; where none fits, that of the fewest bytes.

    Args:
        network: of a backend.
        steps: S.
        threads: of a sweep.
        length: of the audio; None for any.
        at_once: all steps travel together, in several sweeps; else the sweeps follow one another.
    """

    def bytes_of(count: int) -> int:
        one = network.sweep_bytes(count, length, threads)
        if not at_once:
            return one
        whole, rest = divmod(steps, count)
        return whole * one + (network.sweep_bytes(rest, length, threads) if rest else 0)

    counts = range(min(STEPS_PER_SWEEP, steps), 0, -1)
    return next((count for count in counts if bytes_of(count) <= WORKING_MEMORY), min(counts, key=bytes_of))


def sample(
    network: CpuNetwork, item: Item, steps: Steps, threads: int, out: FloatArray, progress: Progress | None = None
) -> None:
    """The reverse process (paper, algorithm 2) over one utterance.

    Args:
        network: of a backend.
        item: the utterance.
        steps: S of them.
        threads: how many share a tile.
        out: [L] float32, C-contiguous: becomes the audio.
        progress: called with the fraction done, 0 to 1, after every tile.
    """
    start(network, item, out)
    count = steps_per_sweep(network, len(steps), threads, item.length, at_once=False)
    for first in range(0, len(steps), count):
        part = steps.part(first, min(first + count, len(steps)))
        pipeline = start_pipeline(network, part, threads, item.seed, item.length, count, item.label)
        noise = None if item.noise is None else np.ascontiguousarray(item.noise[first : first + count])
        pipeline.sweeps[0].bind(x=out, mel=item.mel, noise=noise, scale=item.scale, repeat=item.repeat)
        end = item.length + pipeline.lag
        while pipeline.advance():
            if progress is not None:
                progress((first + len(part) * min(1.0, pipeline.begin / end)) / len(steps))


def start(network: CpuNetwork, item: Item, out: FloatArray) -> None:
    """Out [L] becomes x_T, scaled."""
    if item.x is not None:
        out[:] = item.x
    else:
        for begin in range(0, item.length, BLOCK):
            count = min(BLOCK, item.length - begin)
            out[begin : begin + count] = network.normal(item.seed, 0, begin, count)
    if item.scale is not None:
        rows = out.reshape(-1, item.repeat)
        np.multiply(rows, item.scale[:, None], out=rows)


def predict_noise(network: CpuNetwork, item: Item, steps: Steps, threads: int) -> FloatArray:
    """One evaluation of the network at item.x: eps [L], by a single step (`engine.diffusion.schedule.noise_terms`)."""
    assert item.x is not None
    eps = np.array(item.x, dtype=np.float32, order="C")
    pipeline = start_pipeline(network, steps, threads, 0, item.length, 1, item.label)
    pipeline.sweeps[0].bind(x=eps, mel=item.mel)
    while pipeline.advance():
        pass
    return eps
