"""The T-step loop on a CPU: the order of tiles and steps. The backend does the arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from engine.checks.arrays import FloatArray
from engine.errors import Cancelled
from engine.sampling.item import Event, Item, Progress

if TYPE_CHECKING:
    from engine.kernels.cpu import CpuNetwork, Sweep

# Steps that one sweep runs at once. They share its conditioner, which costs `reach` rows per layer and step.
STEPS_PER_SWEEP = 6
# Bytes that the sweeps of one utterance may hold at a time. A tight budget lets fewer steps share a conditioner.
WORKING_MEMORY = 384 << 20
UNIT = 12  # the rows of a tile are a multiple of it
BLOCK = 1 << 20  # samples of noise drawn at once


@dataclass(frozen=True, eq=False)
class Steps:
    """Steps of a schedule in the form that sweeps take.

    Attributes:
        terms: [S, 3] a, b and sigma: ``x <- a x + b eps + sigma z`` (`engine.diffusion.schedule.update_terms`).
        d: [S, N, C] step biases.
        clamp: whether to limit x to [-1, 1] after every step.
        first: the number of the first step in its schedule.
    """

    terms: FloatArray
    d: FloatArray
    clamp: bool
    first: int = 0

    def __len__(self) -> int:
        return len(self.terms)

    def part(self, begin: int, end: int) -> Steps:
        """Return steps [begin, end)."""
        return Steps(self.terms[begin:end], self.d[begin:end], self.clamp, self.first + begin)


def steps_of(terms: npt.NDArray[np.floating], d: npt.NDArray[np.floating], clamp: bool) -> Steps:
    """Return all steps of a schedule from `engine.diffusion.schedule.update_terms` [S, 3] and d [S, N, C]."""
    coefficients, biases = (np.ascontiguousarray(values, dtype=np.float32) for values in (terms, d))
    return Steps(coefficients, biases, clamp)


class StepPipeline:
    """Steps that advance through time together; step s runs one reach (`Config.reach`) behind step s - 1.

    Attributes:
        network: network of the steps.
        sweeps: the sweeps that share the steps, in order.
        length: length of the audio in samples; None while it is unknown.
        lag: samples between the first step and the final audio.
        mel_lag: samples between the first sweep and the last; every sweep reads the mel.
        tile: the most samples that advance at once.
        begin: the first step has processed all samples before this one.
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
        """The number of final samples: those that all steps have processed."""
        final = max(self.begin - self.lag, 0)
        return final if self.length is None else min(final, self.length)

    def end(self, length: int) -> None:
        """Set the length of the audio, once it is known; it is at least `begin`."""
        for sweep in self.sweeps:
            sweep.end(length)
        self.length = length

    def advance(self, available: int | None = None, cancelled: Callable[[], bool] | None = None) -> bool:
        """Run all steps on one tile; return False when no tile is left, or none is available yet.

        Args:
            available: while the length is unknown, the end of the samples that the first step may process.
            cancelled: called before every step.

        Raises:
            Cancelled: `cancelled` returned true. The pipeline must not be used any more.
        """
        rows = self._rows(available)
        if rows < UNIT:
            return False
        for number in range(len(self._steps)):
            begin = self.begin - number * self._reach
            if -rows < begin and (self.length is None or begin < self.length + self._reach):
                if cancelled is not None and cancelled():
                    raise Cancelled("the audio was cancelled")
                self._run(number, begin, rows)
        self.begin += rows
        return True

    def _run(self, number: int, begin: int, rows: int) -> None:
        # No variable holds a sweep: the frames of a traceback that is kept would hold its memory.
        self._steps[number][0].advance(self._steps[number][1], begin, rows)

    @property
    def bytes(self) -> int:
        """Working memory of the sweeps in bytes."""
        return sum(sweep.bytes for sweep in self.sweeps)

    def release(self) -> None:
        """Free the sweeps. The pipeline must not be used any more."""
        self.sweeps.clear()
        self._steps.clear()

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
    """Return a pipeline of these steps at its beginning.

    Args:
        network: network of a backend.
        steps: S steps.
        threads: number of threads that share a tile.
        seed: seed of the noise.
        length: length of the audio in samples; None while it is unknown.
        per_sweep: the most steps in one sweep.
        label: the number of the class, for a network with classes.
    """
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
    """Return the most steps that may share a conditioner within WORKING_MEMORY, or the number that takes fewest bytes.

    Args:
        network: network of a backend.
        steps: S.
        threads: number of threads of a sweep.
        length: length of the audio in samples; None for any.
        at_once: whether all sweeps run together (a stream) or one after another.
    """

    def bytes_of(count: int) -> int:
        sweep = network.sweep_bytes(count, length, threads)
        if not at_once:
            return sweep
        whole, rest = divmod(steps, count)
        return whole * sweep + (network.sweep_bytes(rest, length, threads) if rest else 0)

    counts = range(min(STEPS_PER_SWEEP, steps), 0, -1)
    return next((count for count in counts if bytes_of(count) <= WORKING_MEMORY), min(counts, key=bytes_of))


def sample(
    network: CpuNetwork,
    item: Item,
    steps: Steps,
    threads: int,
    out: FloatArray,
    progress: Progress | None = None,
    cancel: Event | None = None,
) -> None:
    """Run the reverse process (paper, algorithm 2) over one utterance.

    Args:
        network: network of a backend.
        item: the utterance.
        steps: S steps.
        threads: number of threads that share a tile.
        out: [L] float32, C-contiguous, receives the audio.
        progress: called with the fraction done, 0 to 1, after every tile.
        cancel: asked before every step of a tile.

    Raises:
        Cancelled: the event was set.
    """
    cancelled = None if cancel is None else cancel.is_set
    write_start(network, item, out)
    count = steps_per_sweep(network, len(steps), threads, item.length, at_once=False)
    for first in range(0, len(steps), count):
        part = steps.part(first, min(first + count, len(steps)))
        pipeline = start_pipeline(network, part, threads, item.seed, item.length, count, item.label)
        noise = None if item.noise is None else np.ascontiguousarray(item.noise[first : first + count])
        pipeline.sweeps[0].bind(x=out, mel=item.mel, noise=noise, scale=item.scale, repeat=item.repeat)
        end = item.length + pipeline.lag
        while pipeline.advance(cancelled=cancelled):
            if progress is not None:
                progress((first + len(part) * min(1.0, pipeline.begin / end)) / len(steps))


def write_start(network: CpuNetwork, item: Item, out: FloatArray) -> None:
    """Write the scaled x_T of an item into out [L]."""
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
    """Evaluate the network once at item.x and return eps [L]; `steps` are `engine.diffusion.schedule.noise_terms`."""
    assert item.x is not None
    eps = np.array(item.x, dtype=np.float32, order="C")
    pipeline = start_pipeline(network, steps, threads, 0, item.length, 1, item.label)
    pipeline.sweeps[0].bind(x=eps, mel=item.mel)
    while pipeline.advance():
        pass
    return eps
