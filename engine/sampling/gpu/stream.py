"""Streams on a GPU: each tick computes a window around the samples that became final, several streams' at once.

The GPU keeps nothing between ticks. A window reaches as far to either side as its samples depend on others, so its
kept samples have the bytes of the whole audio.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from engine.checks.arrays import FloatArray, on_device
from engine.config import Config
from engine.diffusion.prior import energy_std
from engine.diffusion.schedule import Schedule
from engine.errors import Cancelled
from engine.sampling.item import Item


class PartSampler(Protocol):
    """The part of `engine.sampling.gpu.loop.GpuLoop` that streams use."""

    ticks: Ticks

    def sample_parts(self, items: Sequence[Item], begins: Sequence[int], schedule: Schedule) -> list[Any]:
        """Return the audio [L_i] of parts of longer utterances, on the device."""

    def plan_bytes(self, length: int) -> int:
        """Return the bytes of a plan for one item of this length."""


@dataclass(eq=False)
class Tick:
    """The work of one stream at a time.

    Attributes:
        item: the window.
        begin: the sample of the stream at which the window begins.
        keep: the final samples in the window.
        schedule: the steps of the stream.
        audio: the final samples, once they are computed.
    """

    item: Item
    begin: int
    keep: slice
    schedule: Schedule
    audio: FloatArray | None = None


class Ticks:
    """Runs the ticks of streams; those that threads ask for while others are computed share the next batch."""

    def __init__(self) -> None:
        self._waiting: list[Tick] = []
        self._adding = threading.Lock()
        self._running = threading.Lock()

    def run(self, tick: Tick, loop: PartSampler) -> FloatArray:
        """Return the final samples of a tick, computed by this thread or by another one that ran before it.

        An exception is that of this thread's batch. The other threads compute their ticks themselves then.
        """
        with self._adding:
            self._waiting.append(tick)
        try:
            with self._running:
                if tick.audio is None:
                    self._run_waiting(tick.schedule, loop)
        finally:
            with self._adding:
                self._waiting.remove(tick)
        assert tick.audio is not None
        return tick.audio

    def _run_waiting(self, schedule: Schedule, loop: PartSampler) -> None:
        """Run the ticks that wait and have this schedule."""
        with self._adding:
            ticks = [tick for tick in self._waiting if tick.audio is None and tick.schedule == schedule]
        audio = loop.sample_parts([tick.item for tick in ticks], [tick.begin for tick in ticks], schedule)
        parts = [np.array(on_device(x[tick.keep], None)) for tick, x in zip(ticks, audio, strict=True)]
        for tick, part in zip(ticks, parts, strict=True):
            tick.audio = part


class GpuWindow:
    """The mel and the deviations of the noise around the samples of a stream that are computed next.

    It is the `engine.sampling.loops.StreamWindow` of a GPU.
    """

    def __init__(
        self,
        loop: PartSampler,
        config: Config,
        schedule: Schedule,
        seed: int,
        energy_min: float | None,
        chunk: int | None,
    ) -> None:
        self._loop = loop
        self._config = config
        self._schedule = schedule
        self._seed = seed
        self._energy_min = energy_min
        self._chunk = chunk
        self._before = len(schedule) * config.reach + 2 * config.hop  # samples that a sample depends on
        self._after = config.look_ahead(len(schedule)) - 1
        self._unit = math.lcm(config.hop, 4)
        self._mel = np.empty((config.n_mels, 0), np.float32)
        self._std = None if energy_min is None else np.empty(0, np.float32)
        self._start: FloatArray | None = None  # x before the first step, where the caller gives it
        self._first_frame = 0
        self._samples = 0  # the first sample that is not computed yet
        self._length: int | None = None

    @property
    def bytes(self) -> int:
        """Working memory in bytes: the signals, and the plan of a tick, which streams share."""
        std = 0 if self._std is None else self._std.nbytes
        start = 0 if self._start is None else self._start.nbytes
        return self._mel.nbytes + std + start + self._loop.plan_bytes(2 * (self._before + self._after))

    @property
    def has_ended(self) -> bool:
        """Whether the length of the audio is known."""
        return self._length is not None

    def add(self, frames: FloatArray, start: FloatArray | None = None) -> None:
        """Append mel frames [M, n] and drop those that no tick reads any more.

        Args:
            frames: the frames.
            start: x [hop n] before the first step; None to draw it.
        """
        dropped = self._begin() // self._config.hop - self._first_frame
        if start is not None:
            before = np.empty(0, np.float32) if self._start is None else self._start
            self._start = np.concatenate([before[dropped * self._config.hop :], start])
        self._mel = np.concatenate([self._mel[:, dropped:], frames], axis=1, dtype=np.float32)
        if self._std is not None and self._energy_min is not None:
            self._std = np.concatenate([self._std[dropped:], energy_std(frames, self._energy_min)])
        self._first_frame += dropped

    def end(self, length: int) -> None:
        """Set the length of the audio in samples, once it is known."""
        self._length = length

    def advance(self, whole_tiles: bool, cancelled: Callable[[], bool]) -> FloatArray | None:
        """Compute the samples that became final; None if there are too few.

        They are enough if they are at least half of the window, or the caller's chunk.

        Args:
            whole_tiles: whether more frames follow at once, so that a chunk may wait for them.
            cancelled: called before and after the tick.

        Raises:
            Cancelled: `cancelled` returned true.
        """
        begin, known = self._begin(), (self._first_frame + self._mel.shape[1]) * self._config.hop
        final = known - self._after if self._length is None else self._length
        count = final - self._samples
        enough = (known - begin + 1) // 2
        if self._chunk is not None and not whole_tiles:
            enough = min(enough, self._chunk)
        if count <= 0 or (self._length is None and count < enough):
            return None
        first = begin // self._config.hop - self._first_frame
        scale = None if self._std is None else self._std[first:]
        x = None if self._start is None else self._start[first * self._config.hop :]
        item = Item(known - begin, self._mel[:, first:], self._seed, x, scale=scale, repeat=self._config.hop)
        keep = slice(self._samples - begin, final - begin)
        audio = self._loop.ticks.run(Tick(item, begin, keep, self._schedule), self._loop)
        if cancelled():
            raise Cancelled("the audio was cancelled")
        self._samples = final
        return audio

    def release(self) -> None:
        """Free the signals. The window must not be used any more."""
        self._mel = self._mel[:, :0].copy()
        self._std = self._start = None

    def _begin(self) -> int:
        """Return the first sample of the next tick's window: a whole frame and a multiple of 4."""
        return max(0, self._samples - self._before) // self._unit * self._unit
