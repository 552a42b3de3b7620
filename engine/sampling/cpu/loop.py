"""The sampling loop on a CPU: how the items of a batch share threads and memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache, partial
from typing import TYPE_CHECKING

import numpy as np

from engine.checks.arrays import FloatArray
from engine.checks.mels import MelBatch
from engine.config import Config
from engine.diffusion.embedding import step_biases
from engine.diffusion.schedule import Schedule, noise_terms, update_terms
from engine.sampling.cpu import pipeline
from engine.sampling.cpu.pipeline import WORKING_MEMORY, Steps, steps_of
from engine.sampling.cpu.window import CpuWindow
from engine.sampling.item import Event, Item, Progress, in_parts

if TYPE_CHECKING:
    from engine.kernels.cpu import CpuNetwork

# The work of one item: takes the item's number, its threads and a function for its progress.
Work = Callable[[int, int, Progress | None], None]

# Items up to this many samples get one thread each: they are too short for threads to share a tile well.
SHORT = 16384


class CpuLoop:
    """Runs items on a CPU, in the sweeps of `engine.sampling.cpu.pipeline`.

    Attributes:
        torch_device: None; tensors are shared with arrays.
    """

    torch_device = None

    def __init__(self, network: CpuNetwork, tensors: Mapping[str, FloatArray], threads: int) -> None:
        self._network = network
        self._threads = threads
        step_tensors = {key: tensor for key, tensor in tensors.items() if "diffusion" in key}
        # A cached method would refer to its own object: the weights would live until the cyclic collector runs.
        self._step_biases = lru_cache(maxsize=8)(partial(_compute_step_biases, network.config, step_tensors))

    def predict_noise(self, items: Sequence[Item], t: float) -> list[FloatArray]:
        """Evaluate the network once at the items' x and step t of the training scale; return eps [L_i] per item."""
        d = self._step_biases((t,))
        step = steps_of(noise_terms(self._network.config, t), d, clamp=False)
        eps = _empty_audio([item.length for item in items])

        def evaluate(i: int, threads: int, report: Progress | None) -> None:
            eps[i][:] = pipeline.predict_noise(self._network, items[i], step, threads)

        self._run_items(items, 1, evaluate)
        return eps

    def sample(
        self,
        items: Sequence[Item],
        schedule: Schedule,
        progress: Progress | None = None,
        cancel: Event | None = None,
    ) -> list[FloatArray]:
        """Run the reverse process (paper, algorithm 2) over every item and return the audio [L_i] per item.

        Beside the audio, this takes about WORKING_MEMORY bytes for any lengths and any number of items.

        Args:
            items: the items; they are not changed.
            schedule: S steps.
            progress: called with the fraction done.
            cancel: asked before every step of a tile.

        Raises:
            Cancelled: the event was set.
        """
        steps = self._steps(schedule)
        audio = _empty_audio([item.length for item in items])

        def run(i: int, threads: int, report: Progress | None) -> None:
            pipeline.sample(self._network, items[i], steps, threads, audio[i], report, cancel)

        self._run_items(items, len(steps), run, progress)
        return audio

    def sample_mels(self, mels: MelBatch, seeds: Sequence[int], schedule: Schedule) -> None:
        """Return None: no mel stays on a device."""

    def open_window(
        self, schedule: Schedule, seed: int, energy_min: float | None, *, streams: int = 1, chunk: int | None = None
    ) -> CpuWindow:
        """Return the window of a stream, one of `streams` that share the threads; it needs no `chunk`."""
        steps, threads = self._steps(schedule), max(1, self._threads // streams)
        count = pipeline.steps_per_sweep(self._network, len(steps), threads, None, at_once=True)
        return CpuWindow(pipeline.start_pipeline(self._network, steps, threads, seed, None, count), seed, energy_min)

    def _run_items(self, items: Sequence[Item], steps: int, work: Work, progress: Progress | None = None) -> None:
        """Process every item: short items side by side, the others with all threads."""
        total = sum(item.length for item in items)
        done = 0

        def on_few(i: int) -> int:
            work(i, self._threads // workers, None)
            return items[i].length

        short = [i for i, item in enumerate(items) if item.length <= SHORT]
        workers = self._workers([items[i].length for i in short], steps)
        beside: list[Future[int]] = []
        if workers > 1:
            with ThreadPoolExecutor(workers) as pool:
                try:
                    beside = _submit(pool, on_few, short)
                    for future in beside:
                        done += future.result()
                        if progress is not None:
                            progress(done / total)
                finally:
                    for future in beside:
                        future.cancel()
        for i in sorted(set(range(len(items))) - set(short[: len(beside)])):
            length = items[i].length
            _, report, _ = in_parts(progress, done, length, total - done - length)
            work(i, self._threads, report)
            done += length

    def _workers(self, lengths: list[int], steps: int) -> int:
        """Return how many short items may run at once: together their sweeps fit into WORKING_MEMORY."""
        if not lengths:
            return 1
        size = self._network.sweep_bytes(min(steps, pipeline.STEPS_PER_SWEEP), max(lengths), 1)
        return max(1, min(self._threads, len(lengths), WORKING_MEMORY // size))

    def _steps(self, schedule: Schedule) -> Steps:
        config = self._network.config
        return steps_of(update_terms(config, schedule), self._step_biases(schedule.t), config.clamp)


def _compute_step_biases(config: Config, tensors: Mapping[str, FloatArray], t: tuple[float, ...]) -> FloatArray:
    return step_biases(tensors, config, t).astype(np.float32)


def _submit(pool: ThreadPoolExecutor, work: Callable[[int], int], items: Sequence[int]) -> list[Future[int]]:
    """Submit the work of every item, or of the first ones: an interpreter that ends starts no more threads.

    A daemon thread may still compute then, and does the rest alone.
    """
    futures = []
    try:
        for item in items:
            futures.append(pool.submit(work, item))
    except RuntimeError as error:
        if "interpreter shutdown" not in str(error):
            raise
    return futures


def _empty_audio(lengths: Sequence[int]) -> list[FloatArray]:
    """Return uninitialised audio; the rows of one array where the lengths are equal."""
    if len(set(lengths)) == 1:
        return list(np.empty((len(lengths), lengths[0]), np.float32))
    return [np.empty(length, np.float32) for length in lengths]
