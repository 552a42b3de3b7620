"""What a voice asks of a backend's loop over the steps, and which backend has which."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Protocol

from engine.cpu_loop import CpuLoop
from engine.gpu_loop import GpuLoop
from engine.sampler import Item, Progress
from engine.schedule import Schedule


class Loop(Protocol):
    """`engine.cpu_loop` and `engine.gpu_loop`."""

    def predict_noise(self, items: Sequence[Item], t: float) -> list[Any]:
        """Eps [L_i] per item."""

    def sample(self, items: Sequence[Item], schedule: Schedule, progress: Progress | None = ...) -> list[Any]:
        """Audio [L_i] per item."""


LOOPS: Mapping[str, Callable[[Any, Any, int], Loop]] = MappingProxyType(
    {"cpu": CpuLoop, "cuda": lambda network, tensors, threads: GpuLoop(network)}
)
