"""What a voice asks of a backend's loop over the steps, and which backend has which."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Protocol

from engine.diffusion.schedule import Schedule
from engine.sampling.cpu.loop import CpuLoop
from engine.sampling.cpu.pipeline import StepPipeline
from engine.sampling.gpu.loop import GpuLoop
from engine.sampling.item import Item, Progress


class Loop(Protocol):
    """`engine.sampling.cpu.loop` and `engine.sampling.gpu.loop`."""

    def predict_noise(self, items: Sequence[Item], t: float) -> list[Any]:
        """Eps [L_i] per item."""

    def start_pipeline(self, schedule: Schedule, seed: int, streams: int = ...) -> StepPipeline:
        """Return the steps of a schedule over audio of unknown length; UnavailableError on a GPU."""

    def sample(self, items: Sequence[Item], schedule: Schedule, progress: Progress | None = ...) -> list[Any]:
        """Audio [L_i] per item."""


LOOPS: Mapping[str, Callable[[Any, Any, int], Loop]] = MappingProxyType(
    {"cpu": CpuLoop, "cuda": lambda network, tensors, threads: GpuLoop(network)}
)
