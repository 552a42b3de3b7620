"""The log of a training, as JSON lines and in TensorBoard."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from engine.training import log as log_module
from engine.training.log import FILE, Log, Window
from engine.training.objective import LEVELS
from engine.training.trainer import Report

FIGURES = {"loss": 0.5, "levels": [0.9, None, 0.1]}


def report(step: int, loss: float) -> Report:
    """Return the report of a batch with two examples at the lowest noise level and one at the highest."""
    levels = np.zeros((LEVELS, 2))
    levels[0], levels[-1] = (4 * loss, 2), (loss, 1)
    return Report(step, 5 * loss / 3, levels, 10 * loss)


def test_a_window_holds_the_means_of_its_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(log_module, "time", SimpleNamespace(monotonic=lambda: clock.now))
    window = Window()
    for begin, losses in ((0, (1.0, 3.0)), (2, (5.0, 9.0))):
        for number, loss in enumerate(losses):
            clock.now += 2.0
            window.add(report(begin + number + 1, loss))
            with pytest.raises(RuntimeError), window.paused():  # the pause counts even if its block fails
                clock.now += 50.0
                raise RuntimeError
        mean = sum(losses) / 2
        assert window.take() == {
            "loss": pytest.approx(5 * mean / 3),
            "levels": [2 * mean, *[None] * (LEVELS - 2), mean],
            "gradient": 10 * mean,
            "seconds_per_step": 2.0,
        }
    recent = window.recent()
    assert recent[0] == pytest.approx(2 * recent[-1]) and 4.5 < recent[-1] < 4.6 and not any(recent[1:-1])


def test_every_line_is_json(tmp_path: Path) -> None:
    log = Log(tmp_path)
    log.write(50, FIGURES)
    log.write(60, {})
    log.write(100, {"loss": math.nan, "levels": [math.inf, None, np.float64(0.25)]})
    lines = [json.loads(line, parse_constant=pytest.fail) for line in (tmp_path / FILE).read_text().splitlines()]
    assert lines == [{"step": 50, **FIGURES}, {"step": 100, "loss": None, "levels": [None, None, 0.25]}]


def test_a_training_that_was_killed_logs_no_step_twice(tmp_path: Path) -> None:
    path = tmp_path / FILE
    path.write_text('{"step": 50}\n{"step": 60, "held_out_loss": 1}\n{"step": 100}\n{"step": 150, "lo')
    log = Log(tmp_path, resumed=60)
    log.write(100, FIGURES)
    steps = [json.loads(line)["step"] for line in path.read_text().splitlines()]
    assert steps == [50, 60, 100]


def test_a_line_that_was_cut_off_is_removed(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text('{"step": 50}\n{"st')
    Log(tmp_path)
    assert (tmp_path / FILE).read_text() == '{"step": 50}\n'


def test_tensorboard_forgets_the_steps_after_the_state(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for resumed, steps in ((0, (50, 100)), (60, (100, 150))):
        log = Log(tmp_path, resumed)
        for step in steps:
            log.write(step, {"loss": float(step + resumed)})
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(50, 50), (100, 160), (150, 210)]


def test_tensorboard_gets_the_same_figures(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = Log(tmp_path)
    log.write(50, FIGURES)
    log.write(100, {"loss": 0.25, "levels": [None, None, None]})
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    scalars = {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    assert scalars == {
        "loss": [(50, 0.5), (100, 0.25)],
        "levels/0": [(50, pytest.approx(0.9))],
        "levels/2": [(50, pytest.approx(0.1))],
    }
