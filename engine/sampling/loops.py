"""The interface of a sampling loop, and the loop of every device."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Protocol

from engine.checks.mels import MelBatch
from engine.diffusion.schedule import Schedule
from engine.sampling.cpu.loop import CpuLoop
from engine.sampling.cpu.pipeline import StepPipeline
from engine.sampling.gpu.loop import GpuLoop
from engine.sampling.item import Event, Item, Progress


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

    def start_pipeline(self, schedule: Schedule, seed: int, streams: int = ...) -> StepPipeline:
        """Return the steps of a schedule over audio of unknown length; raise UnavailableError on a GPU."""


LOOPS: Mapping[str, Callable[[Any, Any, int], Loop]] = MappingProxyType(
    {"cpu": CpuLoop, "cuda": lambda network, tensors, threads: GpuLoop(network)}
)
