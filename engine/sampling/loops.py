"""The interface of a sampling loop, and the loop of every device."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Protocol

from engine.checks.arrays import FloatArray
from engine.checks.mels import MelBatch
from engine.diffusion.schedule import Schedule
from engine.sampling.cpu.loop import CpuLoop
from engine.sampling.gpu.loop import GpuLoop
from engine.sampling.item import Event, Item, Progress


class StreamWindow(Protocol):
    """The signals of one stream around the samples that are computed next."""

    @property
    def bytes(self) -> int:
        """Working memory in bytes."""

    @property
    def has_ended(self) -> bool:
        """Whether the length of the audio is known."""

    def add(self, frames: FloatArray) -> None:
        """Append mel frames [M, n]."""

    def end(self, length: int) -> None:
        """Set the length of the audio in samples, once it is known."""

    def advance(self, whole_tiles: bool, cancelled: Callable[[], bool]) -> FloatArray | None:
        """Compute the next samples and return those that became final, maybe none; None if more mel is needed.

        Args:
            whole_tiles: whether more frames follow at once, so that a small part may wait for them.
            cancelled: called while the work lasts.

        Raises:
            Cancelled: `cancelled` returned true. Like after any other exception, the window must not be used any more.
        """

    def release(self) -> None:
        """Free the memory. The window must not be used any more."""


class DeviceWindow(StreamWindow, Protocol):
    """The window of a device, whose frames may come with the x from which their steps begin."""

    def add(self, frames: FloatArray, start: FloatArray | None = None) -> None:
        """Append mel frames [M, n], and x [hop n] before the first step in place of noise: with all frames or none."""


class Loop(Protocol):
    """The loop over the steps on one device: `CpuLoop` or `GpuLoop`.

    Attributes:
        torch_device: the device on which tensors stay; None for a CPU, which computes on arrays.
    """

    torch_device: Any

    def predict_noise(self, items: Sequence[Item], t: float) -> list[Any]:
        """Return eps [L_i] per item: one evaluation of the network at the items' x."""

    def sample(
        self, items: Sequence[Item], schedule: Schedule, progress: Progress | None = ..., cancel: Event | None = ...
    ) -> list[Any]:
        """Return the audio [L_i] per item: the reverse process (paper, algorithm 2); raise Cancelled on its event."""

    def sample_mels(self, mels: MelBatch, seeds: Sequence[int], schedule: Schedule) -> Any:
        """Return the audio of mels that lie on the device, in their form; None where `sample` is the only way."""

    def open_window(
        self,
        schedule: Schedule,
        seed: int,
        energy_min: float | None,
        *,
        streams: int = ...,
        chunk: int | None = ...,
    ) -> DeviceWindow:
        """Return the window of a stream, whose length is unknown.

        Args:
            schedule: S steps.
            seed: of the noise.
            energy_min: smallest frame energy of the training data of a PriorGrad network; None without prior.
            streams: how many streams work at once.
            chunk: samples that the caller waits for; None for as many as the device computes well.
        """


LOOPS: Mapping[str, Callable[[Any, Any, int], Loop]] = MappingProxyType(
    {"cpu": CpuLoop, "cuda": lambda network, tensors, threads: GpuLoop(network)}
)
