"""The page of `engine bench`: a busy machine, few points, and the accuracy of each precision."""

from __future__ import annotations

import re
from typing import Any

import pytest

from engine.cli.bench import curves
from engine.cli.bench.figures import BUSY, FLAG_ROUNDS, disturbed, quantiles
from engine.cli.bench.page import html
from engine.cli.bench.point import Point, Row
from engine.config import BASE
from engine.errors import UnavailableError
from tests.support.commands import Run

SPEED = {"int8": 4e10, "bf16": 2e10, "fp32": 1e10}  # multiply-accumulates per second and thread


class Simulation:
    """A machine on which every precision has a constant speed; it records the points and their rounds."""

    def __init__(self, slowdown: float = 1.0, peaks: tuple[float, ...] = (1.0,), lacks: tuple[str, ...] = ()) -> None:
        self.slowdown, self.peaks, self.lacks = slowdown, peaks, lacks
        self.rounds: dict[Point, int] = {}

    def measure(self, point: Point, rounds: int, peak_seconds: float) -> Row:
        """Return the row of a point."""
        if point.precision in self.lacks:
            raise UnavailableError(f"no {point.precision}")
        self.rounds[point] = rounds
        seconds = self.slowdown * point.work(BASE) / point.threads / SPEED[point.precision]
        audio = point.items * point.frames * BASE.hop / BASE.sample_rate
        peaks = [self.peaks[number % len(self.peaks)] for number in range(rounds)]
        return {
            **vars(point),
            "seconds": quantiles([seconds]),
            "rtf": quantiles([seconds / audio]),
            "peak_gflops": quantiles(peaks),
            "share_of_peak": quantiles([0.5]),
            "memory_bytes": 1 << 20,
        }


@pytest.fixture(autouse=True)
def known_accuracy(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [{"precision": "int8", "snr_db": 30.0}, {"precision": "bf16", "snr_db": 40.0}]

    def accuracy(
        model: object, threads: int, frames: int, precisions: list[str], *options: object
    ) -> list[dict[str, Any]]:
        return [entry for entry in entries if entry["precision"] in precisions]

    monkeypatch.setattr(curves, "_accuracy", accuracy)


def quick(simulation: Simulation, *precisions: str) -> dict[str, Any]:
    chosen = precisions or tuple(SPEED)
    return curves.measure_curves(curves.QUICK, threads=2, measure=simulation.measure, precisions=chosen)


@pytest.mark.parametrize("slowdown", [0.1, 0.5, 2.0])
def test_a_quick_run_flags_a_busy_machine(slowdown: float) -> None:
    simulation = Simulation(slowdown, peaks=(1.0, 1.0, 0.5))
    results = quick(simulation)
    assert min(simulation.rounds.values()) >= FLAG_ROUNDS and disturbed(results)
    assert BUSY in curves.lines(results) and BUSY in html(results)
    calm = quick(Simulation(slowdown))
    assert not disturbed(calm) and BUSY not in curves.lines(calm) and BUSY not in html(calm)


def test_the_flag_of_two_equal_peaks_and_a_lower_one() -> None:
    assert disturbed({"curves": [{"peak_gflops": quantiles([1.0] * (FLAG_ROUNDS - 1) + [0.8])}]})


@pytest.mark.parametrize("slowdown", [0.1, 2.0, 1000.0])
@pytest.mark.parametrize("precisions", [(), ("fp32",), ("int8",)])
def test_every_section_has_a_plot(slowdown: float, precisions: tuple[str, ...]) -> None:
    page = html(quick(Simulation(slowdown), *precisions))
    sections = re.split("<h2>", page)[1:]
    assert sections and all("<svg" in section for section in sections)
    assert "<div class=grid></div>" not in page
    assert ("<h2>Time and memory" in page) == (slowdown < 1000)


def dots(page: str) -> dict[str, tuple[float, float]]:
    """Return the mark of each series in the plot of accuracy, by color, as (x, y) in pixels."""
    [plot] = re.findall(r'<svg[^>]*aria-label="accuracy against speed".*?</svg>', page, re.DOTALL)
    marks = re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)" r="4" fill="(#\w+)"', plot)
    return {color: (float(x), float(y)) for x, y, color in marks}


def test_the_reference_has_no_accuracy_of_its_own() -> None:
    page = html(quick(Simulation(0.1)))
    assert set(dots(page)) == {"#2f855a", "#1b6ca8"}  # int8 and bf16
    assert "fp32: the reference" in page and 'stroke="#b7791f" stroke-width="2" stroke-dasharray' in page
    (_, int8), (_, bf16) = dots(page)["#2f855a"], dots(page)["#1b6ca8"]
    assert bf16 < int8, "the higher SNR is drawn higher"
    assert "accuracy against speed" not in html(quick(Simulation(0.1), "fp32"))


def test_precisions_are_compared_at_one_length() -> None:
    results = quick(Simulation(0.1))
    assert {row["value"] for row in results["curves"] if row["axis"] == "length"} == {0.25, 0.5, 1}
    assert "Calls of 0.25 s of audio." in html(results)
    assert "Calls of 1 s of audio." in html(quick(Simulation(0.1), "int8"))


def test_precisions_that_would_take_too_long_are_left_out() -> None:
    simulation = Simulation(1000.0)
    results = quick(simulation)
    assert {point.precision for point in simulation.rounds} == {"int8"}
    assert all(results["left_out"][name].endswith("--thorough to measure it") for name in ("bf16", "fp32"))


def test_a_precision_that_the_machine_lacks_is_an_error(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    simulation = Simulation(lacks=("bf16",))
    assert quick(simulation)["left_out"]["bf16"] == "no bf16"
    monkeypatch.setattr(curves, "in_fresh_process", simulation.measure)
    assert run("bench", "--quick", "--precision", "bf16") == (3, "", "engine: error: no bf16\n")
