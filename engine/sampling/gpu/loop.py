"""The reverse process over a batch of utterances on a GPU: what is copied into plans, and when they run."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from engine.diffusion.embedding import sinusoids
from engine.diffusion.schedule import Schedule, noise_terms, update_terms
from engine.errors import UnavailableError
from engine.sampling.gpu.plan import STEPS, Plan, PlanCache, Shape
from engine.sampling.gpu.windows import Window, cut, pack, padded_items, padded_length
from engine.sampling.item import Item, Progress

if TYPE_CHECKING:
    from engine.kernels.gpu import GpuNetwork
    from engine.sampling.cpu.pipeline import StepPipeline

GRAIN = 128  # see engine.kernels.gpu
# Of a plan's buffers. 2 GiB are 11.4 s of audio for BASE in fp16, 5.8 s in fp32: enough rows to fill any GPU. Longer
# audio is cut.
PLAN_BYTES = 2 << 30
CACHE_BYTES = 6 << 30  # of idle plans


class GpuLoop:
    """Runs items on a GPU, in plans of `engine.sampling.gpu.plan`; what `engine.sampling.cpu.loop` does on a CPU.

    Every sample's value depends on its item alone: not on the batch, the windows, the capacity or the stream.
    """

    def __init__(self, network: GpuNetwork, plan_bytes: int = PLAN_BYTES, cache_bytes: int = CACHE_BYTES) -> None:
        self.plans = PlanCache(network, cache_bytes)
        self._network = network
        self._device = network.device
        self._budget = plan_bytes // network.bytes_per_sample()
        self._rows = lru_cache(maxsize=8)(self._fold_steps)
        self._rows_of = lru_cache(maxsize=4)(self._fold_label)
        self._tables = lru_cache(maxsize=8)(self._make_tables)
        self._numbers = lru_cache(maxsize=64)(self._make_numbers)

    def sample(self, items: Sequence[Item], schedule: Schedule, progress: Progress | None = None) -> list[Any]:
        """The reverse process (paper, algorithm 2) over every item.

        Args:
            items: their x, mel, noise and scale are arrays or tensors of the device, and are left as they are.
            schedule: S steps.
            progress: called with the fraction done; waits for the device each time.

        Returns:
            float32 [L_i] per item, on the device, enqueued on the current stream.
        """
        config = self._network.config
        return self._sample(items, schedule.t, update_terms(config, schedule), config.clamp, progress)

    def start_pipeline(self, schedule: Schedule, seed: int, streams: int = 1) -> StepPipeline:
        """Raise UnavailableError: streams run on a CPU."""
        raise UnavailableError("stream: it needs a CPU; load the voice with device='cpu'")

    def predict_noise(self, items: Sequence[Item], t: float) -> list[Any]:
        """One evaluation of the network: eps [L_i] per item, at step t of the training scale."""
        return self._sample(items, (t,), noise_terms(self._network.config, t), clamp=False)

    def _sample(
        self,
        items: Sequence[Item],
        t: tuple[float, ...],
        terms: npt.NDArray[np.float64],
        clamp: bool,
        progress: Progress | None = None,
    ) -> list[Any]:
        with self._device.scope():
            tables = self._tables(tuple(map(tuple, terms.tolist())), clamp)
            audio = [self._start(item) for item in items]
            config = self._network.config
            halo = min(STEPS, len(t)) * config.reach + 2 * config.hop
            lengths = [len(x) for x in audio]
            windows = cut(lengths, halo, config.hop, self._budget, self._network.most_samples())
            # All items of a plan read the same biases, and these hold the label.
            batches = [
                batch
                for label in dict.fromkeys(item.label for item in items)
                for batch in pack([w for w in windows if items[w.item].label == label], self._budget)
            ]
            groups = [(first, min(first + STEPS, len(t))) for first in range(0, len(t), STEPS)]
            # Windows of one item read each other's samples, so these wait for one another after every group.
            stretches = [groups] if len(windows) == len(items) else [[group] for group in groups]
            done, total = 0, len(stretches) * len(batches)
            for stretch in stretches:
                following = [x.clone() for x in audio]
                for batch in batches:
                    label = items[batch[0].item].label
                    rows = self._rows(t) if label is None else self._rows_of(t, label)
                    self._run(batch, items, stretch, (rows, *tables), audio, following)
                    done += 1
                    if progress is not None:
                        self._device.mark().synchronize()
                        progress(done / total)
                audio = following
            return audio

    def _start(self, item: Item) -> Any:
        """x_T [L] on the device, scaled: given, or `engine.diffusion.noise.normal(seed, 0, 0, L)`."""
        if item.x is not None:
            x = self._device.tensor(item.x, "fp32").clone()
        else:
            rows = self._device.empty((1, item.length), "fp32")
            seeds = self._device.tensor([_signed(item.seed)], "i64")
            begins, lengths = self._numbers((0,), "i64"), self._numbers((item.length,), "i32")
            self._device.bind(self._network.initial_noise(rows, seeds, begins, lengths))()
            x = rows[0]
        if item.scale is not None:
            x.mul_(self._device.tensor(np.repeat(item.scale, item.repeat), "fp32"))
        return x

    def _run(
        self,
        batch: list[Window],
        items: Sequence[Item],
        groups: list[tuple[int, int]],
        tables: tuple[Any, Any, Any],
        audio: list[Any],
        following: list[Any],
    ) -> None:
        given = any(items[window.item].noise is not None for window in batch)
        shape = Shape(padded_items(len(batch)), padded_length(batch[0].length, GRAIN), given)
        with self.plans.plan(shape) as plan:
            self._fill(plan, batch, items, audio)
            plan.prepare()
            for first, last in groups:
                plan.load((first, last), tables)
                if given:
                    self._fill_noise(plan, batch, items, first, last)
                plan.run(last - first)
            for row, window in enumerate(batch):
                kept = slice(window.keep_begin - window.begin, window.keep_end - window.begin)
                following[window.item][window.keep_begin : window.keep_end].copy_(plan.buffers.x[row, kept])

    def _fill(self, plan: Plan, batch: list[Window], items: Sequence[Item], audio: list[Any]) -> None:
        buffers, hop = plan.buffers, self._network.config.hop
        spare = [0] * (plan.shape.items - len(batch))
        seeds = [_signed(items[window.item].seed) for window in batch]
        buffers.seeds.copy_(self._device.tensor(seeds + spare, "i64"))
        buffers.begins.copy_(self._numbers((*[window.begin for window in batch], *spare), "i64"))
        buffers.lengths.copy_(self._numbers((*[window.length for window in batch], *spare), "i32"))
        for row, window in enumerate(batch):
            item, part = items[window.item], slice(window.begin, window.end)
            buffers.x[row, : window.length].copy_(audio[window.item][part])
            if item.mel is not None:
                mel = item.mel[:, window.begin // hop : window.end // hop]
                buffers.mel[row, :, : mel.shape[1]].copy_(self._device.tensor(mel, "fp32"))
            if item.scale is not None:
                scale = np.repeat(item.scale, item.repeat)[part]
                buffers.scale[row, : window.length].copy_(self._device.tensor(scale, "fp32"))

    def _fill_noise(self, plan: Plan, batch: list[Window], items: Sequence[Item], first: int, last: int) -> None:
        for row, window in enumerate(batch):
            noise = items[window.item].noise
            assert noise is not None
            part = noise[first:last, window.begin : window.end]  # the last step of all adds none
            plan.buffers.given[: len(part), row, : window.length].copy_(self._device.tensor(part, "fp32"))

    def _make_tables(self, terms: tuple[tuple[float, ...], ...], clamp: bool) -> tuple[Any, Any]:
        """Terms [S,4] and noise steps [S,4]: what the plan's buffers of these names want, for all S."""
        limit = np.full((len(terms), 1), 1.0 if clamp else math.inf)
        steps = np.repeat(np.arange(1, len(terms) + 1)[:, None], 4, axis=1)
        with_limit = np.concatenate([np.array(terms), limit], axis=1)
        tables = self._device.tensor(with_limit, "fp32"), self._device.tensor(steps, "i32")
        self._device.mark().synchronize()  # they are kept, and other streams will read them
        return tables

    def _make_numbers(self, values: tuple[int, ...], dtype: str) -> Any:
        made = self._device.tensor(list(values), dtype)
        self._device.mark().synchronize()  # likewise
        return made

    def _fold_steps(self, t: tuple[float, ...]) -> Any:
        """Rows [S,N,7C] as a plan's buffer of this name wants them, for all S."""
        network, config = self._network, self._network.config
        table = self._device.tensor(sinusoids(config, t), "fp32")
        rows = self._device.empty((len(t), config.residual_layers, 7 * network.channels), "fp32")
        calls: list[Callable[[], None]] = [self._device.bind(launch) for launch in network.fold_steps(table, rows)]
        for call in calls:
            call()
        self._device.mark().synchronize()  # it is kept, and other streams will read it
        return rows

    def _fold_label(self, t: tuple[float, ...], label: int) -> Any:
        rows = self._rows(t).clone()
        self._network.add_label(rows, label)
        self._device.mark().synchronize()
        return rows


def _signed(seed: int) -> int:
    """The same 64 bits as a two's complement."""
    return seed - 2**64 if seed >= 2**63 else seed
