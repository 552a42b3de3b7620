"""The losses of a batch and their gradient: example by example on a CPU, as captured graphs on a GPU."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from engine.training.network import DiffWave
from engine.training.objective import Batch, losses

CPU = torch.device("cpu")
Rows = npt.NDArray[np.int64]
B = TypeVar("B", bound="Examples")
B_in = TypeVar("B_in", bound="Examples", contravariant=True)


class Examples(Protocol):
    """The examples of a step: `engine.training.objective.Batch` or `engine.training.unroll.TuningBatch`."""

    @property
    def kind(self) -> Hashable:
        """The properties that decide which operations a step consists of."""

    def __len__(self) -> int: ...

    def tensors(self) -> list[Tensor]:
        """Return all tensors that the losses depend on, in a fixed order."""

    def part(self: B, begin: int, end: int, device: torch.device) -> B:
        """Return examples begin .. end - 1 on a device."""


class Objective(Protocol[B_in]):
    """What a training minimizes."""

    def parameters(self) -> Iterable[nn.Parameter]:
        """Return the parameters that get a gradient."""

    def backward(self, batch: B_in) -> Tensor:
        """Add the gradient of a batch, and return its losses, [n]."""

    def rows(self, batch: B_in) -> Rows:
        """Return the row of every loss, [n]: its noise level, or LEVELS and more (`engine.training.tuning.LOSSES`)."""


Gradient = Callable[[B], tuple[Tensor, Rows]]


class NoisePrediction:
    """The paper's objective (equation 7).

    Args:
        network: its parameters get the gradient of the sum of losses / `batch_size`.
        kind: "l1" or "l2".
        batch_size: the number of examples of a batch, over all processes.
    """

    def __init__(self, network: DiffWave, kind: str, batch_size: int) -> None:
        self._network, self._kind, self._batch_size = network, kind, batch_size

    def parameters(self) -> Iterable[nn.Parameter]:
        """Return the parameters that get a gradient."""
        return self._network.parameters()

    def backward(self, batch: Batch) -> Tensor:
        """Add the gradient of a batch, and return the loss of every example, [B]."""
        results = losses(self._network, batch, self._kind)
        (results.sum() / self._batch_size).backward()  # type: ignore[no-untyped-call]
        return results.detach()

    def rows(self, batch: Batch) -> Rows:
        """Return the noise level of every example, [B]."""
        return batch.level


def gradient_by_example(objective: Objective[B]) -> Gradient[B]:
    """Return a function that computes one example after the other, which keeps a CPU's caches warm.

    Args:
        objective: its parameters get the gradient.

    Returns:
        A function of a batch that returns its losses [n] and their rows, and replaces the previous gradient.
    """

    def gradient(batch: B) -> tuple[Tensor, Rows]:
        for parameter in objective.parameters():
            if parameter.grad is not None:
                parameter.grad.zero_()
        examples = [batch.part(number, number + 1, CPU) for number in range(len(batch))]
        results = [objective.backward(example) for example in examples]
        return torch.cat(results), np.concatenate([objective.rows(example) for example in examples])

    return gradient


@dataclass(eq=False)
class _Captured(Generic[B]):
    """A graph, its input and output, and the gradients that it writes."""

    graph: torch.cuda.CUDAGraph
    batch: B
    losses: Tensor
    gradients: list[Tensor | None]


class CapturedGradient(Generic[B]):
    """The losses and gradient of a step as one CUDA graph instead of some 500 launches.

    There is a graph for each kind of batch (`Examples.kind`).

    Args:
        objective: its parameters get the gradient.
        device: that computes.
    """

    def __init__(self, objective: Objective[B], device: torch.device) -> None:
        self._objective, self._device = objective, device
        self._graphs: dict[Hashable, _Captured[B]] = {}

    def __call__(self, batch: B) -> tuple[Tensor, Rows]:
        """Return the losses [n] of a batch and their rows, and replace the previous gradient.

        The result is valid until the next call.
        """
        if batch.kind not in self._graphs:
            self._graphs[batch.kind] = self._capture(batch)
        captured = self._graphs[batch.kind]
        for buffer, values in zip(captured.batch.tensors(), batch.tensors(), strict=True):
            buffer.copy_(values, non_blocking=True)
        captured.graph.replay()
        # Another graph has written into tensors of its own.
        for parameter, gradient in zip(self._objective.parameters(), captured.gradients, strict=True):
            parameter.grad = gradient
        return captured.losses, self._objective.rows(batch)

    def _capture(self, batch: B) -> _Captured[B]:
        buffers = batch.part(0, len(batch), self._device)
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(2):  # compiles the kernels; libraries choose algorithms and allocate
                self._objective.backward(buffers)
        torch.cuda.current_stream().wait_stream(stream)
        for parameter in self._objective.parameters():  # makes the graph write gradients instead of adding to them
            parameter.grad = None
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            results = self._objective.backward(buffers)
        return _Captured(graph, buffers, results, [parameter.grad for parameter in self._objective.parameters()])
