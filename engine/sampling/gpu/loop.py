"""The sampling loop on a GPU: fills plans with the windows of a batch, and runs them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.checks.mels import MelBatch, check_kind, kind_limits
from engine.diffusion.schedule import Schedule
from engine.kernels.launch import GRAIN
from engine.sampling.gpu.plan import STEPS, Plan, PlanCache, Shape, size_of
from engine.sampling.gpu.staging import Rows
from engine.sampling.gpu.stream import GpuWindow, Ticks
from engine.sampling.gpu.tables import Table, fold_label, fold_steps, noise_table, sampling_table
from engine.sampling.gpu.windows import Window, cut, pack, padded_items, padded_length
from engine.sampling.item import Event, Item, Progress, stop_if_set

if TYPE_CHECKING:
    from engine.kernels.gpu import GpuNetwork

# Bytes of a plan's buffers. 2 GiB hold 11.4 s of audio for BASE in fp16, 5.8 s in fp32: enough rows to fill any GPU.
# Longer audio is cut into windows.
PLAN_BYTES = 2 << 30
CACHE_BYTES = 6 << 30  # of idle plans


class GpuLoop:
    """Runs items on a GPU, in the plans of `engine.sampling.gpu.plan`.

    A sample depends on its item alone: not on the batch, the windows, the capacity or the stream.

    Attributes:
        plans: the plans of this network.
        torch_device: the device of the audio.
        ticks: the work of its streams.
    """

    def __init__(self, network: GpuNetwork, plan_bytes: int = PLAN_BYTES, cache_bytes: int = CACHE_BYTES) -> None:
        self.plans = PlanCache(network, cache_bytes)
        self.torch_device = network.device.torch_device
        self.ticks = Ticks()
        self._network = network
        self._device = network.device
        self._budget = plan_bytes // network.bytes_per_sample()
        # Cached methods would refer to their own object: the weights would live until the cyclic collector runs.
        self._biases = lru_cache(maxsize=8)(partial(fold_steps, network))
        self._label_biases = lru_cache(maxsize=4)(partial(fold_label, network, self._biases))
        self._table = lru_cache(maxsize=32)(partial(sampling_table, network.config))
        self._noise_table = lru_cache(maxsize=64)(partial(noise_table, network.config))

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
        return self._sample(items, self._table(schedule), progress, cancel)

    def sample_mels(self, mels: MelBatch, seeds: Sequence[int], schedule: Schedule) -> Any:
        """Run the reverse process over mels of one length that lie on the device, with one wait.

        The device computes while the host waits for the bounds of the mels and checks them.

        Args:
            mels: mels whose source is a tensor.
            seeds: one per item.
            schedule: S steps.

        Returns:
            float32 audio in the form of the mels; None for mels that need windows, more than STEPS steps or another
            device.

        Raises:
            InputError: see `check_kind`.
        """
        kind, count, frames = self._network.config.mel_kind, len(mels.frames), mels.frames[0]
        length = frames * self._network.config.hop
        shape = Shape(padded_items(count), padded_length(length, GRAIN), False)
        samples = shape.items * padded_length(length, 1)
        too_long = samples > self._budget or length > min(self._budget, self._network.most_samples())
        if isinstance(mels.source, list) or mels.source.device != self.torch_device:
            return None
        if too_long or len(schedule) > STEPS:
            return None
        table = self._table(schedule)
        with self._device.scope(), self.plans.plan(shape) as plan:
            assert plan.bounds is not None
            plan.bounds.request(mels.source)
            mel, x = plan.views(count, frames, mels.form == "single")
            self._device.clip(mels.source, kind_limits(kind), mel)
            plan.load((0, len(schedule)), self._biases(table.t))
            plan.send(Rows(seeds, [0] * count, [length] * count), table.terms, 0)
            plan.run(len(schedule), start=True, prepare=True)
            audio = x.clone()
            bounds = plan.bounds.wait()
        check_kind(replace(mels, known_bounds=bounds), kind)
        return audio

    def open_window(
        self, schedule: Schedule, seed: int, energy_min: float | None, *, streams: int = 1, chunk: int | None = None
    ) -> GpuWindow:
        """Return the window of a stream; streams share batches without being counted (`streams`)."""
        return GpuWindow(self, self._network.config, schedule, seed, energy_min, chunk)

    def sample_parts(self, items: Sequence[Item], begins: Sequence[int], schedule: Schedule) -> list[Any]:
        """Run the reverse process over parts of longer utterances and return their audio [L_i] on the device.

        Args:
            items: the parts; the samples near their ends are those of an utterance that ends there.
            begins: per part its first sample in the utterance, a multiple of 4; the noise is drawn from there on.
            schedule: S steps.
        """
        return self._sample(items, self._table(schedule), begins=begins)

    def plan_bytes(self, length: int) -> int:
        """Return the bytes of a plan for one item of this length, or for the longest that needs no windows."""
        return size_of(self._network, Shape(1, min(padded_length(length, GRAIN), self._budget), False))

    def predict_noise(self, items: Sequence[Item], t: float) -> list[Any]:
        """Evaluate the network once at step t of the training scale and return eps [L_i] per item."""
        return self._sample(items, self._noise_table(t))

    def _sample(
        self,
        items: Sequence[Item],
        table: Table,
        progress: Progress | None = None,
        cancel: Event | None = None,
        begins: Sequence[int] | None = None,
    ) -> list[Any]:
        origins = [0] * len(items) if begins is None else begins
        with self._device.scope():
            steps, config = len(table.t), self._network.config
            halo = min(STEPS, steps) * config.reach + 2 * config.hop
            lengths = [item.length for item in items]
            windows = cut(lengths, halo, config.hop, self._budget, self._network.most_samples())
            batches = self._batches(windows, items)
            groups = [(first, min(first + STEPS, steps)) for first in range(0, steps, STEPS)]
            # Windows of one item overlap: after every group of steps each needs the samples of its neighbours.
            stretches = [groups] if len(windows) == len(items) else [[group] for group in groups]
            done, total = 0, len(stretches) * len(batches)
            audio = [self._start(item) for item in items]
            for stretch in stretches:
                following: list[Any] = [None] * len(items)
                for batch in batches:
                    self._run(batch, items, origins, stretch, table, audio, following, cancel)
                    done += 1
                    if progress is not None:
                        self._device.mark().synchronize()
                        progress(done / total)
                audio = following
            return audio

    def _batches(self, windows: Sequence[Window], items: Sequence[Item]) -> list[list[Window]]:
        """Return the windows by plan. The items of a plan share its step biases, which include the label.

        Either a plan draws the x_T of all its items or of none.
        """

        def kind(item: Item) -> tuple[int | None, bool]:
            return item.label, item.x is None

        return [
            batch
            for key in dict.fromkeys(map(kind, items))
            for batch in pack([window for window in windows if kind(items[window.item]) == key], self._budget)
        ]

    def _start(self, item: Item) -> Any:
        """Return the scaled x_T [L] of an item on the device; None if the plan draws it."""
        if item.x is None:
            return None
        x = self._device.tensor(item.x, "fp32")
        return x if item.scale is None else x * self._device.tensor(np.repeat(item.scale, item.repeat), "fp32")

    def _run(
        self,
        batch: list[Window],
        items: Sequence[Item],
        origins: Sequence[int],
        groups: list[tuple[int, int]],
        table: Table,
        audio: list[Any],
        following: list[Any],
        cancel: Event | None,
    ) -> None:
        own_noise = any(items[window.item].noise is not None for window in batch)
        shape = Shape(padded_items(len(batch)), padded_length(batch[0].length, GRAIN), own_noise)
        label = items[batch[0].item].label
        biases = self._biases(table.t) if label is None else self._label_biases(table.t, label)
        rows = Rows(
            [items[window.item].seed for window in batch],
            [origins[window.item] + window.begin for window in batch],
            [window.length for window in batch],
        )
        with self.plans.plan(shape) as plan:
            self._fill(plan, batch, items, audio)
            for first, last in groups:
                if cancel is not None:  # to ask before the work is enqueued would be to ask too early
                    self._device.mark().synchronize()
                    stop_if_set(cancel)
                is_first = (first, last) == groups[0]
                plan.load((first, last), biases)
                plan.send(rows, table.terms[first:last], first)
                if own_noise:
                    self._fill_noise(plan, batch, items, first, last)
                plan.run(last - first, start=is_first and audio[batch[0].item] is None, prepare=is_first)
            for row, window in enumerate(batch):
                self._keep(plan.buffers.x[row], window, items[window.item].length, following)

    def _keep(self, x: Any, window: Window, length: int, following: list[Any]) -> None:
        """Copy the kept part of a row of a plan into the audio of its item."""
        kept = x[window.keep_begin - window.begin : window.keep_end - window.begin]
        if kept.shape[0] == length:
            following[window.item] = kept.clone()
            return
        if following[window.item] is None:
            following[window.item] = self._device.empty((length,), "fp32")
        following[window.item][window.keep_begin : window.keep_end].copy_(kept)

    def _fill(self, plan: Plan, batch: list[Window], items: Sequence[Item], audio: list[Any]) -> None:
        buffers, hop = plan.buffers, self._network.config.hop
        for row, window in enumerate(batch):
            item, part = items[window.item], slice(window.begin, window.end)
            if audio[window.item] is not None:
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
