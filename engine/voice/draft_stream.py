"""Streams that refine a draft: the draft follows the mel, and the audio of the network the draft."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from engine.audio.rtisi import PhaseStream
from engine.checks.arrays import FloatArray
from engine.config import Config
from engine.diffusion.schedule import Schedule
from engine.kernels.cpu import normal
from engine.sampling.loops import DeviceWindow
from engine.voice.draft import with_noise


class DraftedWindow:
    """The window of a stream whose steps refine a draft.

    Args:
        window: of the steps.
        phases: the draft of the mel.
        plan: the steps.
        seed: of the noise that is added to the draft.
        config: of the network.
    """

    def __init__(self, window: DeviceWindow, phases: PhaseStream, plan: Schedule, seed: int, config: Config) -> None:
        self._window, self._phases, self._plan, self._seed, self._hop = window, phases, plan, seed, config.hop
        self._frames = np.empty((config.n_mels, 0), np.float32)  # whose draft is not complete
        self._start = np.empty(0, np.float32)  # the draft with noise, of less than the next frame
        self._drawn = 0  # samples

    @property
    def bytes(self) -> int:
        """Working memory in bytes."""
        return self._window.bytes + self._phases.bytes + self._frames.nbytes + self._start.nbytes

    @property
    def has_ended(self) -> bool:
        """Whether the length of the audio is known."""
        return self._window.has_ended

    def add(self, frames: FloatArray) -> None:
        """Append mel frames [M, n]."""
        self._frames = np.concatenate([self._frames, frames], axis=1, dtype=np.float32)
        self._pass_on(self._phases.feed(frames))

    def end(self, length: int) -> None:
        """Set the length of the audio in samples, once it is known."""
        self._pass_on(self._phases.finish())
        self._window.end(length)

    def advance(self, whole_tiles: bool, cancelled: Callable[[], bool]) -> FloatArray | None:
        """Return the samples that became final, see `StreamWindow.advance`."""
        return self._window.advance(whole_tiles, cancelled)

    def release(self) -> None:
        """Free the memory."""
        self._window.release()

    def _pass_on(self, draft: FloatArray) -> None:
        """Give the window all frames whose draft is complete."""
        start = with_noise(draft, normal(self._seed, 0, self._drawn, len(draft)), self._plan)
        self._drawn += len(draft)
        self._start = np.concatenate([self._start, start])
        if count := len(self._start) // self._hop:
            self._window.add(self._frames[:, :count], self._start[: count * self._hop])
            self._frames, self._start = self._frames[:, count:], self._start[count * self._hop :]
