"""The reverse process over a batch of utterances on a CPU: who gets which threads."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from engine import sampler
from engine.embedding import step_biases
from engine.sampler import Item, Network, Progress
from engine.schedule import Schedule

Array = npt.NDArray[np.float32]

# Items up to this many samples are spread over the threads one by one: they are too short to share a tile well,
# and their working memory is bounded by their length.
SHORT = 16384


class CpuLoop:
    """Runs items on a CPU, in sweeps of `engine.sampler`; what `engine.gpu_loop` does on a GPU."""

    def __init__(self, network: Network, tensors: Mapping[str, Array], threads: int) -> None:
        self._network = network
        self._threads = threads
        self._tensors = {key: tensor for key, tensor in tensors.items() if "diffusion" in key}
        self._step_biases = lru_cache(maxsize=8)(self._compute_step_biases)

    def draw(self, seed: int, length: int) -> Array:
        """x_T [L]: `engine.noise.normal(seed, 0, 0, length)`."""
        return self._network.normal(seed, 0, 0, length)

    def predict_noise(self, items: Sequence[Item], t: float) -> list[Array]:
        """One evaluation of the network: eps [L_i] per item, at step t of the training scale."""
        d = self._step_biases((t,))
        return [sampler.predict_noise(self._network, _copied(item), d, self._threads) for item in items]

    def sample(self, items: Sequence[Item], schedule: Schedule, progress: Progress | None = None) -> list[Array]:
        """The reverse process (paper, algorithm 2) over every item: audio [L_i] each.

        Args:
            items: left as they are.
            schedule: S steps.
            progress: called with the fraction done.
        """
        d = self._step_biases(schedule.t)
        total = sum(len(item.x) for item in items)
        done = 0

        def one(item: Item, threads: int, report: Progress | None) -> Array:
            return sampler.sample(self._network, _copied(item), schedule, d, threads, report)

        audio: dict[int, Array] = {}
        short = [i for i, item in enumerate(items) if len(item.x) <= SHORT] if self._threads > 1 else []
        if len(short) > 1:
            with ThreadPoolExecutor(min(self._threads, len(short))) as pool:
                for i, made in zip(short, pool.map(lambda i: one(items[i], 1, None), short), strict=True):
                    audio[i] = made
                    done += len(made)
                    if progress is not None:
                        progress(done / total)
        for i, item in enumerate(items):
            if i in audio:
                continue
            audio[i] = one(item, self._threads, _scaled(progress, done / total, len(item.x) / total))
            done += len(item.x)
        return [audio[i] for i in range(len(items))]

    def _compute_step_biases(self, t: tuple[float, ...]) -> Array:
        return step_biases(self._tensors, self._network.config, t).astype(np.float32)


def _copied(item: Item) -> Item:
    return Item(np.array(item.x, dtype=np.float32, order="C"), item.mel, item.seed, item.noise, item.scale)


def _scaled(progress: Progress | None, done: float, share: float) -> Callable[[float], None] | None:
    return None if progress is None else lambda fraction: progress(done + share * fraction)
