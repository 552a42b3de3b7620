"""The curves of `engine bench` of the bundled voice.

A plain run of pytest measures a few frames in this process.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from engine.cli.bench import curves, point

PARTS = ("curves", "accuracy", "left_out")


@pytest.mark.benchmark(group="growth")
def test_curves(benchmark: Any, results: dict[str, Any]) -> None:
    if benchmark.enabled:
        extent, measure = curves.DEFAULT, None
    else:
        tiny = {axis: (0.02,) if axis == "length" else (1,) for axis in curves.AXES} | {"channels": (64,)}
        extent = replace(curves.QUICK, values=tiny, call_seconds=math.inf, total_seconds=math.inf, peak_seconds=0.01)
        measure = point.measure
    threads = None if measure is None else 1
    measured = benchmark.pedantic(lambda: curves.measure_curves(extent, threads=threads, measure=measure))
    assert {row["axis"] for row in measured["curves"]} == set(curves.AXES)
    results["curves"].update({name: measured[name] for name in PARTS})
