"""The sampling loop on a GPU: fills plans with the windows of a batch, and runs them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from engine.diffusion.embedding import sinusoids
from engine.diffusion.schedule import Schedule, noise_terms, update_terms
from engine.errors import UnavailableError
from engine.kernels.launch import GRAIN
from engine.sampling.gpu.plan import STEPS, Plan, PlanCache, Shape
from engine.sampling.gpu.windows import Window, cut, pack, padded_items, padded_length
from engine.sampling.item import Event, Item, Progress, stop_if_set

if TYPE_CHECKING:
    from engine.kernels.gpu import GpuNetwork
    from engine.kernels.launch import Device
    from engine.sampling.cpu.pipeline import StepPipeline

# Bytes of a plan's buffers. 2 GiB hold 11.4 s of audio for BASE in fp16, 5.8 s in fp32: enough rows to fill any GPU.
# Longer audio is cut into windows.
PLAN_BYTES = 2 << 30
CACHE_BYTES = 6 << 30  # of idle plans


class GpuLoop:
    """Runs items on a GPU, in the plans of `engine.sampling.gpu.plan`.

    A sample depends on its item alone: not on the batch, the windows, the capacity or the stream.
    """

    def __init__(self, network: GpuNetwork, plan_bytes: int = PLAN_BYTES, cache_bytes: int = CACHE_BYTES) -> None:
        self.plans = PlanCache(network, cache_bytes)
        self._network = network
        self._device = network.device
        self._budget = plan_bytes // network.bytes_per_sample()
        # Cached methods would refer to their own object: the weights would live until the cyclic collector runs.
        self._rows = lru_cache(maxsize=8)(partial(_fold_steps, network))
        self._rows_of = lru_cache(maxsize=4)(partial(_fold_label, network, self._rows))
        self._tables = lru_cache(maxsize=8)(partial(_make_tables, network.device))
        self._numbers = lru_cache(maxsize=64)(partial(_make_numbers, network.device))

    def sample(
        self,
        items: Sequence[Item],
        schedule: Schedule,
        progress: Progress | None = None,
        cancel: Event | None = None,
    ) -> list[Any]:
        """Run the reverse process (paper, algorithm 2) over every item.

        Args:
            items: items whose x, mel, noise and scale are arrays or tensors of the device; they are not changed.
            schedule: S steps.
            progress: called with the fraction done; every call waits for the device.
            cancel: asked before every group of STEPS steps of a plan, when the device has finished the one before.

        Returns:
            float32 [L_i] per item on the device; the work is enqueued on the current stream.

        Raises:
            Cancelled: the event was set.
        """
        config = self._network.config
        return self._sample(items, schedule.t, update_terms(config, schedule), config.clamp, progress, cancel)

    def start_pipeline(self, schedule: Schedule, seed: int, streams: int = 1) -> StepPipeline:
        """Raise UnavailableError: only a CPU runs streams."""
        raise UnavailableError("stream: it needs a CPU; load the voice with device='cpu'")

    def predict_noise(self, items: Sequence[Item], t: float) -> list[Any]:
        """Evaluate the network once at step t of the training scale and return eps [L_i] per item."""
        return self._sample(items, (t,), noise_terms(self._network.config, t), clamp=False)

    def _sample(
        self,
        items: Sequence[Item],
        t: tuple[float, ...],
        terms: npt.NDArray[np.float64],
        clamp: bool,
        progress: Progress | None = None,
        cancel: Event | None = None,
    ) -> list[Any]:
        with self._device.scope():
            tables = self._tables(tuple(map(tuple, terms.tolist())), clamp)
            audio = [self._start(item) for item in items]
            config = self._network.config
            halo = min(STEPS, len(t)) * config.reach + 2 * config.hop
            lengths = [len(x) for x in audio]
            windows = cut(lengths, halo, config.hop, self._budget, self._network.most_samples())
            # The items of a plan share its step biases, which include the label.
            batches = [
                batch
                for label in dict.fromkeys(item.label for item in items)
                for batch in pack([w for w in windows if items[w.item].label == label], self._budget)
            ]
            groups = [(first, min(first + STEPS, len(t))) for first in range(0, len(t), STEPS)]
            # Windows of one item overlap: after every group of steps each needs the samples of its neighbours.
            stretches = [groups] if len(windows) == len(items) else [[group] for group in groups]
            done, total = 0, len(stretches) * len(batches)
            for stretch in stretches:
                following = [x.clone() for x in audio]
                for batch in batches:
                    label = items[batch[0].item].label
                    rows = self._rows(t) if label is None else self._rows_of(t, label)
                    self._run(batch, items, stretch, (rows, *tables), audio, following, cancel)
                    done += 1
                    if progress is not None:
                        self._device.mark().synchronize()
                        progress(done / total)
                audio = following
            return audio

    def _start(self, item: Item) -> Any:
        """Return the scaled x_T [L] on the device: the item's own, or `normal(seed, 0, 0, L)`."""
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
        cancel: Event | None,
    ) -> None:
        own_noise = any(items[window.item].noise is not None for window in batch)
        shape = Shape(padded_items(len(batch)), padded_length(batch[0].length, GRAIN), own_noise)
        with self.plans.plan(shape) as plan:
            self._fill(plan, batch, items, audio)
            plan.prepare()
            for first, last in groups:
                if cancel is not None:  # to ask before the work is enqueued would be to ask too early
                    self._device.mark().synchronize()
                    stop_if_set(cancel)
                plan.load((first, last), tables)
                if own_noise:
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
            plan.buffers.noise[: len(part), row, : window.length].copy_(self._device.tensor(part, "fp32"))


def _make_tables(device: Device, terms: tuple[tuple[float, ...], ...], clamp: bool) -> tuple[Any, Any]:
    """Return terms [S, 4] and noise steps [S, 4] for all S, as the plan's buffers of these names take them."""
    limit = np.full((len(terms), 1), 1.0 if clamp else math.inf)
    steps = np.repeat(np.arange(1, len(terms) + 1)[:, None], 4, axis=1)
    with_limit = np.concatenate([np.array(terms), limit], axis=1)
    tables = device.tensor(with_limit, "fp32"), device.tensor(steps, "i32")
    device.mark().synchronize()  # the tables are cached, and other streams will read them
    return tables


def _make_numbers(device: Device, values: tuple[int, ...], dtype: str) -> Any:
    numbers = device.tensor(list(values), dtype)
    device.mark().synchronize()  # cached as well
    return numbers


def _fold_steps(network: GpuNetwork, t: tuple[float, ...]) -> Any:
    """Return rows [S, N, 7C] for all S, as the plan's buffer of this name takes them."""
    device, config = network.device, network.config
    table = device.tensor(sinusoids(config, t), "fp32")
    rows = device.empty((len(t), config.residual_layers, 7 * network.channels), "fp32")
    calls: list[Callable[[], None]] = [device.bind(launch) for launch in network.fold_steps(table, rows)]
    for call in calls:
        call()
    device.mark().synchronize()  # the rows are cached, and other streams will read them
    return rows


def _fold_label(
    network: GpuNetwork, rows_of: Callable[[tuple[float, ...]], Any], t: tuple[float, ...], label: int
) -> Any:
    rows = rows_of(t).clone()
    network.add_label(rows, label)
    network.device.mark().synchronize()
    return rows


def _signed(seed: int) -> int:
    """Return the signed integer with the same 64 bits."""
    return seed - 2**64 if seed >= 2**63 else seed
