"""`engine bench`: which points it measures, what a row says, and the command from end to end on a tiny network."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.api import bundled
from engine.cli.bench import curves, point
from engine.cli.bench.point import Point
from engine.config import BASE, LARGE, Config
from engine.diffusion.schedule import build_schedule
from engine.errors import InputError, UnavailableError
from engine.kernels import registry
from tests.support.commands import SMALL, Run, saved, unconditional


def made_up(speed: float) -> Any:
    """A machine that is so many multiply-accumulates per second fast, per thread, and has no bf16."""
    asked: list[Point] = []

    def measure(one: Point, rounds: int, peak_seconds: float) -> point.Row:
        if one.precision != "fp32":
            raise UnavailableError(f"no {one.precision}")
        asked.append(one)
        seconds = one.work(BASE) / one.threads / speed
        figures = {name: {"p50": value} for name, value in (("seconds", seconds), ("rtf", 1.0), ("peak_gflops", 1.0))}
        return {**vars(one), **figures, "share_of_peak": {"p50": 0.5}, "memory_bytes": 1 << 20}

    return asked, measure


@pytest.fixture
def fast_accuracy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curves, "_accuracy", lambda *arguments: [])


@pytest.mark.usefixtures("fast_accuracy")
def test_what_is_affordable_is_measured_and_the_rest_is_named() -> None:
    asked, measure = made_up(2e10)
    results = curves.measured(curves.DEFAULT, threads=2, measure=measure)
    on = {axis: [row["value"] for row in results["curves"] if row["axis"] == axis] for axis in curves.AXES}
    # Half a second in 6 steps is 1.6 s here.
    assert on["length"] == [0.5, 1] and on["threads"] == [1, 2] and on["batch"] == [1, 2]
    assert on["steps"] == [2, 3, 6, 12] and on["channels"] == [32, 64]
    assert len(asked) == len(set(asked)), "a point that stands on several axes is measured once"
    assert results["left_out"]["bf16"] == "no bf16"
    assert results["left_out"]["fp32, 1 x 600 s, 6 steps, 2 threads, C=64"].endswith("--thorough takes the time")
    assert curves.lines(results)[-2:] == [
        *(f"left out: {name}: no {name}" for name in registry.CPU_PRECISIONS[-2:-1]),
        f"left out: {len(results['left_out']) - len(registry.CPU_PRECISIONS) + 1} points that take longer: "
        "--thorough takes the time",
    ]
    everything = curves.measured(curves.THOROUGH, threads=2, measure=made_up(2e10)[1])
    assert set(everything["left_out"]) == set(registry.CPU_PRECISIONS) - {"fp32"}
    assert max(row["value"] for row in everything["curves"] if row["axis"] == "length") == 600


@pytest.mark.parametrize("config", [BASE, LARGE], ids=["BASE", "LARGE"])
@pytest.mark.parametrize("steps", [1, 2, 200])
def test_any_number_of_steps_has_a_schedule(config: Config, steps: int) -> None:
    betas = point.even_schedule(config, steps)
    plan = build_schedule(config, schedule=betas)
    assert len(plan) == steps and all(a > b for a, b in pairwise(plan.t))
    assert plan.alpha_bar[0] == pytest.approx(np.prod(1.0 - np.array(config.train_schedule)), rel=1e-6) or steps == 1


def test_what_is_measured_without_fp32_is_still_compared_with_it() -> None:
    (found,) = curves._accuracy(None, 1, 2, ["int8"])
    assert found["precision"] == "int8" and 10.0 < found["snr_db"] < 80.0


def test_a_point_says_time_share_and_memory(here: Path) -> None:
    one = Point("fp32", 1, 20, 2, 3, 32, "small.safetensors")
    row = point.in_fresh_process(one, 2, 0.01)
    assert row["channels"] == 32 and row["rounds"] == 2 and row["steps"] == 3
    assert row["audio_seconds"] == pytest.approx(2 * 20 * 256 / 22050)
    assert row["rtf"]["p50"] == pytest.approx(row["seconds"]["p50"] / row["audio_seconds"], rel=1e-6)
    assert row["share_of_peak"]["p50"] > 0.001 and row["peak_gflops"]["p50"] > 0.1
    with pytest.raises(UnavailableError, match=r"none\.safetensors"):
        point.in_fresh_process(replace(one, model="none.safetensors"), 1, 0.01)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the most cannot be forgotten")
def test_memory_is_what_was_taken_meanwhile() -> None:
    """In a process of its own, as points are measured: here other tests' threads give memory back at any time."""
    code = (
        "import numpy as np; from engine.cli.bench import memory; size = 32 << 20; np.ones(2 * size // 8); "
        "before = memory.resident(); memory.forget_most(); np.ones(size // 8); "
        "print((memory.most() - before) / size)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 0.9 < float(run.stdout) < 1.5


def test_the_bundled_voice_is_measured_in_all_that_it_can(here: Path) -> None:
    """Without an isa: in what `engine.load` would take for each precision."""
    for precision in bundled().choice.precision, "int8":
        row = point.measure(Point(precision, 1, 2), 1, 0.01)
        assert row["precision"] == precision and row["seconds"]["p50"] > 0.0
    assert point.measure(Point("int8", 1, 2, channels=32), 1, 0.01)["channels"] == 32
    with pytest.raises(UnavailableError, match="'int8' needs ranges"):
        point.measure(Point("int8", 1, 2, model="small.safetensors"), 1, 0.01)


def test_networks_without_a_mel_are_refused(here: Path) -> None:
    saved(here / "free.safetensors", unconditional())
    with pytest.raises(InputError, match="expected a network with a mel"):
        curves.measured(curves.QUICK, "free.safetensors")


def test_the_command(here: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curves, "in_fresh_process", point.measure)
    few = {**curves.QUICK.values, "length": (0.05, 0.1), "channels": (16, 32), "batch": (1, 2)}
    monkeypatch.setattr(curves, "QUICK", replace(curves.QUICK, values=few, peak_seconds=0.005))
    small = ("--model", "small.safetensors", "--threads", 1)
    status, out, err = run("bench", "--quick", *small, "--json", "a.json", "--report", "a.html")
    assert (status, err) == (0, "") and "wrote a.html" in out
    results = json.loads((here / "a.json").read_text())
    assert {row["axis"] for row in results["curves"]} == set(curves.AXES)
    assert all(f"{row['value']:g}" in out for row in results["curves"])
    assert results["threads"] == 1 and SMALL.residual_channels == 16
    assert run("bench", "--quick", *small, "--precision", "fp32", "--json", "b.json")[0] == 0
    assert {row["precision"] for row in json.loads((here / "b.json").read_text())["curves"]} == {"fp32"}
    status, out, err = run("bench", *small, "--report", "a.txt")
    assert status == 2 and ".html" in err and err.count("\n") == 1
