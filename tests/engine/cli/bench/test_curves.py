"""`engine bench`: the choice of points, the rows, and the command on a tiny network."""

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

from engine.cli.bench import curves, point
from engine.cli.bench.figures import quantiles
from engine.cli.bench.point import Point
from engine.config import BASE, LARGE, Config
from engine.diffusion.schedule import build_schedule
from engine.errors import InputError, UnavailableError
from engine.kernels import registry
from engine.voice.api import bundled_voice
from tests.support.commands import SMALL, Run, save_network, unconditional_config


def simulated_machine(speed: float) -> Any:
    """Return the measured points and a measurement on a machine that has only fp32.

    The speed is in multiply-accumulates per second and thread.
    """
    measured: list[Point] = []

    def measure(entry: Point, rounds: int, peak_seconds: float) -> point.Row:
        if entry.precision != "fp32":
            raise UnavailableError(f"no {entry.precision}")
        measured.append(entry)
        seconds = entry.work(BASE) / entry.threads / speed
        values = {"seconds": seconds, "rtf": 1.0, "peak_gflops": 1.0, "share_of_peak": 0.5}
        figures = {name: quantiles([value]) for name, value in values.items()}
        return {**vars(entry), **figures, "memory_bytes": 1 << 20}

    return measured, measure


@pytest.fixture
def fast_accuracy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curves, "_accuracy", lambda *arguments: [])


@pytest.mark.usefixtures("fast_accuracy")
def test_points_that_take_too_long_are_left_out() -> None:
    measured, measure = simulated_machine(2e10)
    results = curves.measure_curves(curves.DEFAULT, threads=2, measure=measure)
    values = {axis: [row["value"] for row in results["curves"] if row["axis"] == axis] for axis in curves.AXES}
    # Half a second of audio in 6 steps takes 1.6 s on this machine.
    assert values["length"] == [0.5, 1] and values["threads"] == [1, 2] and values["batch"] == [1, 2]
    assert values["steps"] == [1, 2, 3, 4, 5, 6, 12] and values["channels"] == [32, 64]
    assert len(measured) == len(set(measured)), "a point on several axes is measured once"
    assert results["left_out"]["bf16"] == "no bf16"
    assert results["left_out"]["fp32, 1 x 600 s, 6 steps, 2 threads, C=64"].endswith("pass --thorough to measure it")
    assert curves.lines(results)[-2:] == [
        *(f"left out: {name}: no {name}" for name in registry.CPU_PRECISIONS[-2:-1]),
        f"left out: {len(results['left_out']) - len(registry.CPU_PRECISIONS) + 1} points that take too long; "
        "pass --thorough to measure them",
    ]
    everything = curves.measure_curves(curves.THOROUGH, threads=2, measure=simulated_machine(2e10)[1])
    assert set(everything["left_out"]) == set(registry.CPU_PRECISIONS) - {"fp32"}
    assert max(row["value"] for row in everything["curves"] if row["axis"] == "length") == 600


@pytest.mark.parametrize("config", [BASE, LARGE], ids=["BASE", "LARGE"])
@pytest.mark.parametrize("steps", [1, 2, 200])
def test_any_number_of_steps_has_a_schedule(config: Config, steps: int) -> None:
    betas = point.even_schedule(config, steps)
    plan = build_schedule(config, schedule=betas)
    assert len(plan) == steps and all(a > b for a, b in pairwise(plan.t))
    assert plan.alpha_bar[0] == pytest.approx(np.prod(1.0 - np.array(config.train_schedule)), rel=1e-6) or steps == 1


@pytest.mark.parametrize("steps", [1, 3, 6, 7, 50])
def test_the_schedule_of_a_point(steps: int) -> None:
    """A number that the network accepts selects its own schedule, every other one an even schedule."""
    twelve = replace(BASE, fast_schedule=tuple(np.geomspace(1e-4, 0.3, 12).tolist()))
    for config, accepted in (
        (BASE, {1, 3, 6, 50}),
        (twelve, {12, 50}),
        (replace(twelve, schedules=((0.3,),)), {1, 50}),
    ):
        plan = build_schedule(config, **point.sampling_options(config, steps))
        assert len(plan) == steps
        even = build_schedule(config, schedule=point.even_schedule(config, steps))
        assert plan == (build_schedule(config, steps) if steps in accepted else even)


@pytest.mark.usefixtures("fast_accuracy")
def test_the_number_of_steps_of_all_points(workspace: Path) -> None:
    measured, measure = simulated_machine(1e12)
    results = curves.measure_curves(curves.QUICK, threads=2, measure=measure, steps=3)
    assert results["steps"] == 3
    assert {row["steps"] for row in results["curves"] if row["axis"] != "steps"} == {3}
    assert {row["steps"] for row in results["curves"] if row["axis"] == "steps"} == {3, 6}
    save_network(workspace / "twelve.safetensors", replace(SMALL, fast_schedule=(0.01,) * 12))
    own = curves.measure_curves(curves.QUICK, "twelve.safetensors", 2, measure=simulated_machine(1e12)[1])
    assert own["steps"] == 12 and {row["steps"] for row in own["curves"]} == {3, 6, 12}
    assert len(measured) == len(set(measured))
    with pytest.raises(InputError, match="steps: expected 12 or 50"):
        curves.measure_curves(curves.QUICK, "twelve.safetensors", 2, measure=measure, steps=5)


def test_the_snr_is_against_fp32_even_if_fp32_is_not_measured() -> None:
    (entry,) = curves._accuracy(None, 1, 2, ["int8"], 3)
    assert entry["precision"] == "int8" and 10.0 < entry["snr_db"] < 80.0


@pytest.mark.usefixtures("fast_accuracy")
def test_the_instruction_set_of_all_points() -> None:
    measured, measure = simulated_machine(1e12)
    results = curves.measure_curves(curves.QUICK, threads=2, measure=measure, isa="avx2")
    assert {entry.isa for entry in measured} == {"avx2"} and "(avx2)" in curves.lines(results)[0]
    with pytest.raises(InputError, match="isa: expected one of 'generic', "):
        curves.measure_curves(curves.QUICK, threads=1, isa="sse9", measure=point.measure)


def test_the_snr_is_that_of_the_instruction_set(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded, load = [], curves.engine.load

    def recording(*arguments: Any, **options: Any) -> Any:
        loaded.append((options["precision"], options["isa"]))
        return load(*arguments, **options)

    monkeypatch.setattr(curves.engine, "load", recording)
    curves._accuracy(None, 1, 2, ["int8"], 3, "generic")
    assert loaded == [("fp32", None), ("int8", "generic")]


def test_a_point_runs_on_its_instruction_set() -> None:
    row = point.measure(Point("fp32", 1, 2, isa="generic"), 1, 0.01)
    assert row["isa"] == "generic"


def test_the_row_of_a_point(workspace: Path) -> None:
    entry = Point("fp32", 1, 20, 2, 3, 32, "small.safetensors")
    row = point.in_fresh_process(entry, 2, 0.01)
    assert row["channels"] == 32 and row["rounds"] == 2 and row["steps"] == 3
    assert row["audio_seconds"] == pytest.approx(2 * 20 * 256 / 22050)
    assert row["rtf"]["p50"] == pytest.approx(row["seconds"]["p50"] / row["audio_seconds"], rel=1e-6)
    assert row["share_of_peak"]["p50"] > 0.001 and row["peak_gflops"]["p50"] > 0.1
    with pytest.raises(UnavailableError, match=r"none\.safetensors"):
        point.in_fresh_process(replace(entry, model="none.safetensors"), 1, 0.01)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can reset the peak")
def test_memory_of_a_call() -> None:
    # In a process of its own, because threads of other tests may free memory at any time.
    code = (
        "import numpy as np; from engine.cli.bench import memory; size = 32 << 20; np.ones(2 * size // 8); "
        "before = memory.resident(); memory.reset_peak(); np.ones(size // 8); "
        "print((memory.peak() - before) / size)"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 0.9 < float(process.stdout) < 1.5


def test_every_precision_of_the_bundled_voice(workspace: Path) -> None:
    # The instruction set is that of `engine.load` for each precision.
    for precision in bundled_voice().choice.precision, "int8":
        row = point.measure(Point(precision, 1, 2), 1, 0.01)
        assert row["precision"] == precision and row["seconds"]["p50"] > 0.0
    assert point.measure(Point("int8", 1, 2, channels=32), 1, 0.01)["channels"] == 32
    with pytest.raises(UnavailableError, match="'int8' needs ranges"):
        point.measure(Point("int8", 1, 2, model="small.safetensors"), 1, 0.01)


def test_networks_without_a_mel(workspace: Path) -> None:
    save_network(workspace / "free.safetensors", unconditional_config())
    with pytest.raises(InputError, match="expected a network with a mel"):
        curves.measure_curves(curves.QUICK, "free.safetensors")


def test_the_command(workspace: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curves, "in_fresh_process", point.measure)
    few = {**curves.QUICK.values, "length": (0.05, 0.1), "channels": (16, 32), "batch": (1, 2)}
    monkeypatch.setattr(curves, "QUICK", replace(curves.QUICK, values=few, peak_seconds=0.005))
    small = ("--model", "small.safetensors", "--threads", 1)
    status, out, err = run("bench", "--quick", *small, "--json", "a.json", "--report", "a.html")
    assert (status, err) == (0, "") and "wrote a.html" in out
    assert "left out: int8: --precision int8 needs ranges" in out
    results = json.loads((workspace / "a.json").read_text())
    assert {row["axis"] for row in results["curves"]} == set(curves.AXES)
    assert all(f"{row['value']:g}" in out for row in results["curves"])
    assert results["threads"] == 1 and SMALL.residual_channels == 16
    rows = [line.split() for line in out.splitlines() if line[:1] == " " and line.split()[1:2] != ["precision"]]
    assert [(row[1], int(row[2])) for row in rows] == [(row["precision"], row["steps"]) for row in results["curves"]]
    status, out, _ = run("bench", "--quick", *small, "--steps", 2, "--precision", "fp32", "--json", "c.json")
    assert status == 0 and ", 2 steps, on " in out
    assert {row["steps"] for row in json.loads(Path("c.json").read_text())["curves"]} == {2, 3, 6}
    status, _, err = run("bench", "--quick", *small, "--steps", 7)
    assert status == 2 and err.startswith("engine: error: --steps: expected 1 to 6 or 50")
    assert run("bench", "--quick", *small, "--precision", "fp32", "--json", "b.json")[0] == 0
    assert {row["precision"] for row in json.loads((workspace / "b.json").read_text())["curves"]} == {"fp32"}
    status, out, err = run("bench", *small, "--report", "a.txt")
    assert status == 2 and "--report: expected a name that ends in .html" in err and err.count("\n") == 1
