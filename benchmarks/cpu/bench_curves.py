"""The curves of `engine bench` of the bundled voice. A plain run measures a few frames, in this process."""

import math
from dataclasses import replace

import pytest

from engine.cli.bench import curves, point

PARTS = ("curves", "accuracy", "left_out")


@pytest.mark.benchmark(group="as work grows")
def test_curves(benchmark, kept):
    if benchmark.enabled:
        extent, measure = curves.DEFAULT, None
    else:
        tiny = {axis: (0.02,) if axis == "length" else (1,) for axis in curves.AXES} | {"channels": (64,)}
        extent, measure = (
            replace(curves.QUICK, values=tiny, per_call=math.inf, in_all=math.inf, peak_seconds=0.01),
            point.measure,
        )
    found = benchmark.pedantic(lambda: curves.measured(extent, threads=None if measure is None else 1, measure=measure))
    assert {row["axis"] for row in found["curves"]} == set(curves.AXES)
    kept["curves"].update({name: found[name] for name in PARTS})
