"""The losses of a batch and their gradient: example by example on a CPU, as one captured graph on a GPU."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from engine.training.network import DiffWave
from engine.training.objective import Batch, losses

Gradient = Callable[[Batch], Tensor]
CPU = torch.device("cpu")
INPUTS = ("x", "target", "weight", "embedded", "mel", "label")  # of a batch, what losses depend on


def plain(network: DiffWave, kind: str, whole: int) -> Gradient:
    """One example after the other, which keeps a CPU's caches warm.

    Args:
        network: whose parameters get the gradient of the sum of losses / whole.
        kind: "l1" or "l2".
        whole: the examples of a batch, over all processes.

    Returns:
        batch -> its losses [B]; their gradient replaces the one that was there.
    """

    def gradient(batch: Batch) -> Tensor:
        network.zero_grad(set_to_none=False)
        found = []
        for number in range(len(batch.x)):
            each = losses(network, batch.part(number, number + 1, CPU), kind)
            (each.sum() / whole).backward()  # type: ignore[no-untyped-call]
            found.append(each.detach())
        return torch.cat(found)

    return gradient


class Captured:
    """The same for batches of one shape on a GPU: some 500 launches become one.

    Args:
        network: on its device.
        kind: "l1" or "l2".
        whole: the examples of a batch, over all processes.
    """

    def __init__(self, network: DiffWave, kind: str, whole: int) -> None:
        self._network, self._kind, self._whole = network, kind, whole
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, batch: Batch) -> Tensor:
        """batch -> its losses [B], until the next call; their gradient replaces the one that was there."""
        if self._graph is None:
            self._capture(batch)
        assert self._graph is not None
        for name in INPUTS:
            mine, theirs = getattr(self._batch, name), getattr(batch, name)
            if mine is not None:
                mine.copy_(theirs, non_blocking=True)
        self._graph.replay()
        return self._losses

    def _capture(self, batch: Batch) -> None:
        self._batch = batch.part(0, len(batch.x), next(self._network.parameters()).device)
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(2):  # kernels are compiled, libraries choose and allocate
                self._pass()
        torch.cuda.current_stream().wait_stream(stream)
        self._network.zero_grad(set_to_none=True)  # so that the graph writes gradients and does not add to them
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._losses = self._pass()

    def _pass(self) -> Tensor:
        each = losses(self._network, self._batch, self._kind)
        (each.sum() / self._whole).backward()  # type: ignore[no-untyped-call]
        return each.detach()
