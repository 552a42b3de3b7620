"""The cache of plans: reuse, eviction, failures. tests/gpu checks what plans compute."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from engine.sampling.gpu import plan
from engine.sampling.gpu.plan import Plan, PlanCache, Shape


class Mark:
    """A point in a stream that counts who waits for it."""

    def __init__(self, log: list[str]) -> None:
        self.log = log

    def record(self) -> None:
        self.log.append("record")

    def wait(self) -> None:
        self.log.append("wait")

    def synchronize(self) -> None:
        self.log.append("synchronize")


@pytest.fixture
def log() -> list[str]:
    return []


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch, log: list[str]) -> Any:
    class FakePlan:
        def __init__(self, network: Any, shape: Shape) -> None:
            log.append(f"built {shape.capacity}")
            self.shape, self.bytes, self.mark = shape, plan.size_of(network, shape), Mark(log)

    monkeypatch.setattr(plan, "Plan", FakePlan)
    return SimpleNamespace(bytes_per_sample=lambda: 1)


def shape(capacity: int, own_noise: bool = False) -> Shape:
    return Shape(1, capacity, own_noise)


def test_a_plan_is_reused_after_its_last_work(network: Any, log: list[str]) -> None:
    cache = PlanCache(network, 1000)
    with cache.plan(shape(100)) as first:
        pass
    with cache.plan(shape(100)) as again:
        assert again is first and len(cache) == 0
    assert log == ["built 100", "record", "wait", "record"] and len(cache) == 1


def test_two_calls_at_once_get_two_plans(network: Any, log: list[str]) -> None:
    cache = PlanCache(network, 1000)
    with cache.plan(shape(100)) as first, cache.plan(shape(100)) as second:
        assert first is not second
    assert len(cache) == 2


def test_other_shapes_are_other_plans(network: Any, log: list[str]) -> None:
    cache = PlanCache(network, 10000)
    for requested in (shape(100), shape(200), shape(100, own_noise=True)):
        with cache.plan(requested) as borrowed:
            assert borrowed.shape == requested
    assert len(cache) == 3 and "wait" not in log


def test_the_least_recently_used_makes_room(network: Any, log: list[str]) -> None:
    cache = PlanCache(network, 310)
    for capacity in (100, 101, 100, 102):
        with cache.plan(shape(capacity)):
            pass
    with cache.plan(shape(103)):  # 101 has to go, after its work is done
        assert log[-2:] == ["synchronize", "built 103"]
    with cache.plan(shape(100)):
        pass
    assert log.count("built 100") == 1 and log.count("synchronize") == 1 and len(cache) == 3


def test_a_plan_larger_than_the_limit_is_still_built(network: Any, log: list[str]) -> None:
    cache = PlanCache(network, 300)
    for _ in range(2):
        with cache.plan(shape(1000)):
            pass
    assert len(cache) == 1


class Fragile:
    """A buffer whose next copy can be interrupted."""

    def __init__(self) -> None:
        self.values, self.broken = [0.0], False

    def __getitem__(self, rows: slice) -> Fragile:
        return self

    def copy_(self, values: list[float]) -> None:
        if self.broken:
            raise KeyboardInterrupt
        self.values = values


def test_biases_are_copied_again_after_an_interruption() -> None:
    buffers = SimpleNamespace(biases=Fragile(), lengths=SimpleNamespace(zero_=lambda: None), scale=None, block=None)
    buffers.x = buffers.seeds = buffers.begins = None
    device = SimpleNamespace(
        bind=lambda launch: launch,
        event=lambda: Mark([]),
        pinned=lambda shape, dtype: SimpleNamespace(numpy=lambda: np.empty(shape, np.int32)),
    )
    network: Any = SimpleNamespace(
        config=SimpleNamespace(n_mels=0, residual_layers=0, hop=1),
        device=device,
        bytes_per_sample=lambda: 1,
        buffers=lambda *_: buffers,
        initial_noise=lambda *_: lambda: None,
        condition=lambda buffers: [],
        step=lambda buffers, step: [lambda: None, lambda: None],
    )
    loaded, (first, other) = Plan(network, shape(100)), ([1.0], [2.0])
    loaded.load((0, 1), first)
    buffers.biases.broken = True
    with pytest.raises(KeyboardInterrupt):
        loaded.load((0, 1), other)
    buffers.biases.broken = False
    loaded.load((0, 1), first)
    assert buffers.biases.values == [1.0]


def test_a_failure_returns_the_plan(network: Any, log: list[str]) -> None:
    cache = PlanCache(network, 300)
    with pytest.raises(RuntimeError, match="in between"), cache.plan(shape(100)):
        raise RuntimeError("in between")
    assert len(cache) == 1
