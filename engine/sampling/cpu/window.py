"""The signals that a stream keeps in memory: x between the last and the first step, and the mel around the first."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from engine.checks.arrays import FloatArray
from engine.diffusion.prior import energy_std
from engine.sampling.cpu.pipeline import StepPipeline


class CpuWindow:
    """The part of x, of the mel and of the noise's deviation that the next tiles of a pipeline read.

    It is the `engine.sampling.loops.StreamWindow` of a CPU.

    Attributes:
        pipeline: the steps that read it; their audio has no known length yet.
    """

    def __init__(self, pipeline: StepPipeline, seed: int, energy_min: float | None) -> None:
        self.pipeline = pipeline
        self._network = pipeline.network
        config = self._network.config
        self._seed = seed
        self._energy_min = energy_min
        self._hop = config.hop
        # Moving x down costs as much as writing it once, if there is as much room again.
        self._x = np.zeros(2 * (pipeline.lag + 2 * pipeline.tile), np.float32)
        self._origin = self._drawn = 0
        self._mel = np.empty((config.n_mels, 0), np.float32)
        self._first_frame = 0
        self._std = None if energy_min is None else np.empty(0, np.float32)
        self._first_std = 0
        # A layer with an upsampler of its own reads the mel one reach later.
        self._mel_lag = pipeline.mel_lag + (0 if config.shared_upsampler else config.reach)
        self._start: FloatArray | None = None  # x of samples that are not drawn yet, where the caller gives it
        self._moved = True

    @property
    def bytes(self) -> int:
        """Working memory in bytes."""
        return self.pipeline.bytes

    @property
    def has_ended(self) -> bool:
        """Whether the length of the audio is known."""
        return self.pipeline.length is not None

    def end(self, length: int) -> None:
        """Set the length of the audio in samples, once it is known."""
        self.pipeline.end(length)

    def advance(self, whole_tiles: bool, cancelled: Callable[[], bool]) -> FloatArray | None:
        """Run one tile and return the audio that became final, maybe none; None if the mel does not fill a tile yet.

        Args:
            whole_tiles: whether a tile that could still grow waits for more frames.
            cancelled: called before every step.

        Raises:
            Cancelled: `cancelled` returned true. Like after any other exception, the window must not be used any more.
        """
        pipeline, available = self.pipeline, self.pipeline.length
        if available is None:
            config = self._network.config
            available = (self._first_frame + self._mel.shape[1]) * self._hop - config.mel_reach
            if whole_tiles and available - pipeline.begin < pipeline.tile:
                return None
        self._prepare(min(pipeline.begin + pipeline.tile, available))
        begin = pipeline.final
        return self._audio(begin, pipeline.final) if pipeline.advance(available, cancelled) else None

    def add(self, frames: FloatArray, start: FloatArray | None = None) -> None:
        """Append mel frames [M, n] and drop those that no tile reads any more.

        Args:
            frames: the frames.
            start: x [hop n] before the first step; None to draw it.
        """
        if start is not None:
            self._start = start if self._start is None else np.concatenate([self._start, start])
        begin = max(self.pipeline.begin - self._mel_lag, 0)
        first = max(self._network.frames_of(begin, begin + 1)[0], self._first_frame)
        self._mel = np.concatenate([self._mel[:, first - self._first_frame :], frames], axis=1, dtype=np.float32)
        self._first_frame = first
        if self._std is not None and self._energy_min is not None:
            first = max((self.pipeline.begin - self.pipeline.lag) // self._hop, self._first_std)
            std = energy_std(frames, self._energy_min)
            self._std = np.concatenate([self._std[first - self._first_std :], std])
            self._first_std = first
        self._moved = True

    def _prepare(self, end: int) -> None:
        """Take x before the first step up to sample `end`, and tell the sweeps where the signals lie if they moved."""
        if end - self._origin > len(self._x):
            origin = max(self.pipeline.begin - self.pipeline.lag, 0)
            self._x[: self._drawn - origin] = self._x[origin - self._origin : self._drawn - self._origin].copy()
            self._origin = origin
            self._moved = True
        if end > self._drawn:
            x = self._next_x(end - self._drawn)
            if self._std is not None:
                x *= self._std[np.arange(self._drawn, end) // self._hop - self._first_std]
            self._x[self._drawn - self._origin : end - self._origin] = x
            self._drawn = end
        if self._moved:
            for sweep in self.pipeline.sweeps:
                sweep.bind(
                    self._x,
                    self._origin,
                    self._mel,
                    self._first_frame,
                    scale=self._std,
                    scale_origin=self._first_std,
                    repeat=self._hop,
                )
            self._moved = False

    def _next_x(self, count: int) -> FloatArray:
        """Return x before the first step of the samples from `_drawn` on."""
        if self._start is None:
            return self._network.normal(self._seed, 0, self._drawn, count)
        x, self._start = self._start[:count], self._start[count:]
        return x

    def _audio(self, begin: int, end: int) -> FloatArray:
        """Return a copy of final samples [begin, end)."""
        return self._x[begin - self._origin : end - self._origin].copy()

    def release(self) -> None:
        """Free the signals and the sweeps. The window must not be used any more."""
        self.pipeline.release()
        self._x = np.empty(0, np.float32)
        self._mel = self._mel[:, :0].copy()
        self._std = self._start = None
