"""The gradient of a step as a graph for each kind of batch, on stand-ins for CUDA's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from engine.training.data import read_corpus
from engine.training.gradient import CapturedGradient, gradient_by_example
from engine.training.processes import Processes
from engine.training.trainer import Trainer
from engine.training.unroll import make_tuning_batch
from tests.engine.training.recordings import unrolled_recipe, write_tones

CPU = torch.device("cpu")


class Graph:
    """A stand-in for a CUDA graph: the same computation, into the tensors of the capture."""

    recording: Graph | None = None

    def __init__(self) -> None:
        self.replays = 0

    def record(self, objective: Any, batch: Any, losses: torch.Tensor) -> None:
        self._objective, self._batch, self._losses = objective, batch, losses
        self._gradients = [parameter.grad for parameter in objective.parameters()]

    def replay(self) -> None:
        self.replays += 1
        for parameter in self._objective.parameters():
            parameter.grad = None
        self._losses.copy_(self._objective.backward(self._batch))
        for parameter, gradient in zip(self._objective.parameters(), self._gradients, strict=True):
            if gradient is not None:
                gradient.copy_(parameter.grad)
            parameter.grad = None  # a real graph does not touch it


class Recorded:
    """An objective that tells a graph what it computed while the graph was captured."""

    def __init__(self, objective: Any) -> None:
        self._objective = objective
        self.parameters, self.rows = objective.parameters, objective.rows

    def backward(self, batch: Any) -> torch.Tensor:
        losses: torch.Tensor = self._objective.backward(batch)
        if Graph.recording is not None:
            assert all(parameter.grad is not None for parameter in list(self.parameters())[:10])
            Graph.recording.record(self._objective, batch, losses)
        return losses


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> list[Graph]:
    """Return the list of all captured graphs."""
    captured: list[Graph] = []

    @contextmanager
    def capture(graph: Graph) -> Iterator[None]:
        captured.append(graph)
        Graph.recording = graph
        yield
        Graph.recording = None

    stream = SimpleNamespace(wait_stream=lambda other: None)
    monkeypatch.setattr(torch.cuda, "Stream", lambda: stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", capture)
    return captured


def test_every_kind_of_batch_has_its_graph_and_its_gradients(tmp_path: Path, graphs: list[Graph]) -> None:
    recipe = unrolled_recipe(unroll={"steps": [2, 1], "adversarial": 1.0, "adversarial_after": 0.6})
    corpus = read_corpus(write_tones(tmp_path, 5, 22050, 0.3), recipe.data, recipe.network)
    objective = Trainer(recipe, corpus, Processes(0, 1, CPU)).objective
    by_example, captured = gradient_by_example(objective), CapturedGradient(Recorded(objective), CPU)
    for step in range(6):
        batch = make_tuning_batch(corpus, recipe, step, range(4))
        results = []
        for gradient in (captured, by_example):
            losses, rows = gradient(batch)
            table = torch.zeros(20).index_add(0, torch.from_numpy(rows), losses)
            results.append((table, [None if p.grad is None else p.grad.clone() for p in objective.parameters()]))
            for parameter in objective.parameters():
                parameter.grad = None if gradient is captured else parameter.grad
        torch.testing.assert_close(results[0][0], results[1][0], rtol=1e-4, atol=1e-5)
        for one, other in zip(results[0][1], results[1][1], strict=True):
            if one is not None and other is not None:
                torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)
        assert sum(one is not None for one in results[0][1]) > 40
        for parameter in objective.parameters():
            parameter.grad = None
    # Two and one steps, each before and after the second stage begins in step 4.
    assert [graph.replays for graph in graphs] == [2, 2, 1, 1]
