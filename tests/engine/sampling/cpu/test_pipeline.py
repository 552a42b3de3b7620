"""The order of tiles and steps, and the steps per sweep, on sweeps that only record their calls."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from engine.config import BASE, LARGE, SC09_THIN, Config
from engine.diffusion.schedule import build_schedule, update_terms
from engine.errors import Cancelled
from engine.kernels import cpu
from engine.sampling.cpu import pipeline
from engine.sampling.cpu.pipeline import UNIT, WORKING_MEMORY, StepPipeline, start_pipeline, steps_of, steps_per_sweep
from tests.support.targets import targets, weights

REACH, TILE = 31, 96
NETWORK: Any = SimpleNamespace(config=SimpleNamespace(reach=REACH))


class Recorder:
    """A sweep that records its tiles and computes nothing."""

    tile = TILE
    bytes = 0

    def __init__(self, calls: list[tuple[int, int, int]], first: int) -> None:
        self.calls, self.first, self.length = calls, first, None

    def advance(self, step: int, begin: int, rows: int) -> None:
        self.calls.append((self.first + step, begin, rows))

    def end(self, length: int) -> None:
        self.length = length


def five_steps(length: int | None) -> tuple[StepPipeline, list[tuple[int, int, int]]]:
    """Return five steps in two sweeps, and the list of their calls."""
    calls: list[tuple[int, int, int]] = []
    return StepPipeline(NETWORK, [(Recorder(calls, 0), 3), (Recorder(calls, 3), 2)], length), calls


def check(calls: list[tuple[int, int, int]], length: int) -> None:
    """Check that every step took every sample and `reach` more, in order, once the step before it was final there."""
    ends = [None] * 5
    for step, begin, rows in calls:
        assert rows % UNIT == 0 and 0 < rows <= TILE
        assert begin <= 0 if ends[step] is None else begin == ends[step]
        ends[step] = begin + rows
        if step:
            assert begin + rows <= max((ends[step - 1] or 0) - REACH, 0) or ends[step - 1] >= length + REACH
    assert all(end >= length + REACH for end in ends)


@pytest.mark.parametrize("length", [1, 11, 12, 95, 96, 97, 500])
def test_a_pipeline_of_known_length(length: int) -> None:
    steps, calls = five_steps(length)
    while steps.advance():
        assert steps.final == min(max(steps.begin - 5 * REACH, 0), length)
    check(calls, length)
    assert steps.final == length and steps.lag == 5 * REACH and steps.mel_lag == 3 * REACH


@pytest.mark.parametrize("pieces", [[1] * 60, [300], [13, 200, 1, 1, 96, 7], [5]])
def test_a_pipeline_of_unknown_length_goes_as_far_as_its_input(pieces: list[int]) -> None:
    steps, calls = five_steps(None)
    available = 0
    for piece in pieces:
        available += piece
        while steps.advance(available):
            assert steps.begin <= available
        assert available - steps.begin < UNIT
    steps.end(available)
    assert [sweep.length for sweep in steps.sweeps] == [available] * 2  # type: ignore[attr-defined]
    while steps.advance():
        pass
    check(calls, available)


def test_cancelling_stops_before_the_next_step() -> None:
    for question in range(1, 12):
        steps, calls = five_steps(500)
        answers = iter([False] * (question - 1) + [True])
        with pytest.raises(Cancelled):
            while steps.advance(None, lambda: next(answers)):  # noqa: B023
                pass
        assert len(calls) == question - 1


SIZES = {
    "BASE": (BASE, 6),
    "BASE, 50 steps": (BASE, 50),
    "LARGE": (LARGE, 6),
    "SC09, deep and thin": (SC09_THIN, 6),
    "SC09 with a mel": (replace(BASE, residual_channels=256, residual_layers=36, dilation_cycle=12), 6),
}


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize(("isa", "precision"), targets(tiles=False))
def test_working_memory_is_bounded(isa: str, precision: str, name: str) -> None:
    """Some number of steps per sweep fits the budget, for audio of any length and any number of threads."""
    config, steps = SIZES[name]
    net = network_of(config, isa, precision)
    for threads in (1, 2, 4, 8, 16):
        count = steps_per_sweep(net, steps, threads, None, at_once=False)
        bytes_ = net.sweep_bytes(count, None, threads)
        assert bytes_ <= WORKING_MEMORY, f"{threads} threads: {bytes_ >> 20} MiB"
        assert count == min(6, steps) or net.sweep_bytes(count + 1, None, threads) > WORKING_MEMORY
        short = net.sweep_bytes(count, 5000, threads)
        assert short < bytes_


@pytest.mark.parametrize(("threads", "at_once"), [(128, False), (32, True), (64, True), (128, True)])
def test_a_tight_budget_takes_the_fewest_bytes(threads: int, at_once: bool) -> None:
    net, steps = network_of(LARGE, "generic", "fp32"), 6
    sizes = {
        count: (steps // count if at_once else 1) * net.sweep_bytes(count, None, threads)
        + (net.sweep_bytes(steps % count, None, threads) if at_once and steps % count else 0)
        for count in range(1, steps + 1)
    }
    assert min(sizes.values()) > WORKING_MEMORY
    assert sizes[steps_per_sweep(net, steps, threads, None, at_once)] == min(sizes.values())


def test_sweep_bytes_are_those_of_the_sweep() -> None:
    net = network_of(replace(BASE, residual_layers=4, residual_channels=16), "generic", "fp32")
    for length in (None, 700):
        d, terms = np.zeros((3, 4, 16), np.float32), np.zeros((3, 3), np.float32)
        sweep = net.sweep(d, terms, clamp=True, threads=2, length=length)
        assert sweep.bytes == net.sweep_bytes(3, length, 2)


@pytest.mark.parametrize("budget", [1 << 20, 3 << 20])
def test_the_budget_changes_no_byte(monkeypatch: pytest.MonkeyPatch, budget: int) -> None:
    config = replace(BASE, residual_layers=6, residual_channels=16, dilation_cycle=5)
    net = network_of(config, "generic", "fp32")
    plan = build_schedule(config)
    rng = np.random.default_rng(0)
    steps = steps_of(update_terms(BASE, plan), 0.1 * rng.standard_normal((6, 6, 16)), clamp=True)
    item = pipeline.Item(5 * 256, rng.random((80, 5), np.float32), seed=3)

    def audio() -> Any:
        out = np.empty(item.length, np.float32)
        pipeline.sample(net, item, steps, 1, out)
        return out.tobytes()

    expected = audio()
    monkeypatch.setattr(pipeline, "WORKING_MEMORY", budget)
    assert steps_per_sweep(net, 6, 1, item.length, at_once=False) < 6
    assert audio() == expected


def test_steps_keep_their_numbers() -> None:
    """The noise that the n-th step adds is that of step n + 1, whatever the sweeps."""
    numbers: list[int] = []

    class Net:
        config = Config()

        def sweep(self, d: Any, terms: Any, *, noise_step: int, **_: Any) -> Recorder:
            numbers.append(noise_step)
            return Recorder([], 0)

    steps = steps_of(update_terms(BASE, build_schedule(BASE, "full")), np.zeros((50, 30, 64)), clamp=True)
    started = start_pipeline(Net(), steps, 1, 0, None, 6)  # type: ignore[arg-type]
    assert numbers == list(range(1, 51, 6)) and started.lag == 50 * BASE.reach


def network_of(config: Config, isa: str, precision: str) -> cpu.CpuNetwork:
    return cpu.CpuNetwork(config, weights(config), isa, precision)
