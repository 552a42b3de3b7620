"""The losses of a batch and their gradient: example by example on a CPU, as one captured graph on a GPU."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from engine.training.network import DiffWave
from engine.training.objective import Batch, losses

Gradient = Callable[[Batch], Tensor]
CPU = torch.device("cpu")
INPUTS = ("x", "target", "weight", "embedded", "mel", "label")  # the fields of a batch that its losses depend on


def gradient_by_example(network: DiffWave, kind: str, batch_size: int) -> Gradient:
    """Return a function that computes one example after the other, which keeps a CPU's caches warm.

    Args:
        network: its parameters get the gradient of the sum of losses / `batch_size`.
        kind: "l1" or "l2".
        batch_size: the number of examples of a batch, over all processes.

    Returns:
        A function of a batch that returns its losses [B] and replaces the previous gradient.
    """

    def gradient(batch: Batch) -> Tensor:
        network.zero_grad(set_to_none=False)
        results = []
        for number in range(len(batch.x)):
            loss = losses(network, batch.part(number, number + 1, CPU), kind)
            (loss.sum() / batch_size).backward()  # type: ignore[no-untyped-call]
            results.append(loss.detach())
        return torch.cat(results)

    return gradient


class CapturedGradient:
    """The losses and gradient of batches of one shape, as one CUDA graph instead of some 500 launches.

    Args:
        network: on its device; its parameters get the gradient of the sum of losses / `batch_size`.
        kind: "l1" or "l2".
        batch_size: the number of examples of a batch, over all processes.
    """

    def __init__(self, network: DiffWave, kind: str, batch_size: int) -> None:
        self._network, self._kind, self._batch_size = network, kind, batch_size
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, batch: Batch) -> Tensor:
        """Return the losses [B] of a batch and replace the previous gradient.

        The result is valid until the next call.
        """
        if self._graph is None:
            self._capture(batch)
        assert self._graph is not None
        for name in INPUTS:
            buffer, values = getattr(self._batch, name), getattr(batch, name)
            if buffer is not None:
                buffer.copy_(values, non_blocking=True)
        self._graph.replay()
        return self._losses

    def _capture(self, batch: Batch) -> None:
        self._batch = batch.part(0, len(batch.x), next(self._network.parameters()).device)
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(2):  # compiles the kernels; libraries choose algorithms and allocate
                self._forward_backward()
        torch.cuda.current_stream().wait_stream(stream)
        self._network.zero_grad(set_to_none=True)  # makes the graph write gradients instead of adding to them
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._losses = self._forward_backward()

    def _forward_backward(self) -> Tensor:
        results = losses(self._network, self._batch, self._kind)
        (results.sum() / self._batch_size).backward()  # type: ignore[no-untyped-call]
        return results.detach()
