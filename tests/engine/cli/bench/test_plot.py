"""Plots as SVG: the places of points, bars and ticks."""

from __future__ import annotations

import re

import pytest

from engine.cli.bench.plot import Axis, Series, bars, lines


def test_larger_values_are_higher_and_further_right() -> None:
    plot = lines("title", Axis("x", log=True), Axis("y"), [Series("a & b", [(1, 5.0), (10, 7.0), (100, 6.0)], "#000")])
    (line,) = re.findall(r'points="(.*?)"', plot)
    places = [tuple(map(float, place.split(","))) for place in line.split()]
    (a, low), (b, high), (c, middle) = places
    assert b - a == pytest.approx(c - b, abs=0.2) and low > middle > high
    assert "a &amp; b" in plot
    drawn = bars("title", "x", [("a", 2.0, "#000"), ("b", 1.0, "#000")])
    long, short = map(float, re.findall(r'width="([\d.]+)" height="17"', drawn))
    assert long == 2 * short


@pytest.mark.parametrize(
    ("axis", "values", "ticks"),
    [
        (Axis("", zero=True), (0.3, 0.9), [0.0, 0.2, 0.4, 0.6, 0.8]),
        (Axis("", log=True), (1, 64), [1, 2, 5, 10, 20, 50]),
        (Axis("", log=True), (0.5, 600), [1, 10, 100]),
        (Axis(""), (3.0, 3.0), [3.0]),
    ],
)
def test_ticks_are_round(axis: Axis, values: tuple[float, float], ticks: list[float]) -> None:
    drawn = axis.ticks(*axis.range(values))
    assert [tick for tick in drawn if any(abs(tick - value) < 1e-9 for value in ticks)] == pytest.approx(ticks)
    assert len(drawn) <= 7
