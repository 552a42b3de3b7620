"""Writing a training's state: regularly, before a validation, on a signal, and never after divergence."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from engine.errors import InputError
from engine.training import __main__ as command
from engine.training import fit as fit_module
from engine.training import log as log_module
from engine.training.fit import STATE, Options, fit
from engine.training.settings import read_recipe
from engine.training.state import State, read_state, write_state
from engine.training.trainer import Report, Trainer
from tests.engine.training.recordings import digits_recipe, recipe_text, write_digits, write_tones
from tests.engine.training.states import equal_states

RECIPE = recipe_text(frames=1, steps=60, batch=2)
# The command, with a worker process that computes batches, as beside a GPU, and a log every ten steps.
COMMAND = """
import sys
from engine.training import fit
from engine.training.__main__ import main
from engine.training.processes import Processes

Processes.workers = 1
fit.LOG_STEPS = 10
sys.exit(main())
"""


def test_a_training_resumes_to_the_same_weights_after_a_signal_to_its_group(tmp_path: Path) -> None:
    """Schedulers and `timeout` signal the whole group, and so the worker processes too."""
    (tmp_path / "recipe.toml").write_text(RECIPE)
    data, log = write_tones(tmp_path / "data", 4, 22050, 0.3), tmp_path / "broken" / "log.jsonl"
    arguments = ["recipe.toml", "--data", "data", "--folder", "broken", "--device", "cpu", "--threads", "1"]
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, "fit", *arguments, "--precision", "fp32", "--validate-every", "0"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    while not (log.exists() and log.stat().st_size) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert process.poll() is None, process.communicate()[1]
    os.killpg(process.pid, signal.SIGTERM)
    err = process.communicate(timeout=120)[1].decode()
    assert process.returncode == 130, err
    assert 10 <= read_state(tmp_path / "broken" / STATE).step < 60
    for folder in ("broken", "whole"):
        assert fit(read_recipe(tmp_path / "recipe.toml"), data, Options(tmp_path / folder))
    assert equal_states(read_state(tmp_path / "whole" / STATE), read_state(tmp_path / "broken" / STATE))


def test_a_signal_that_torchrun_repeats_is_not_a_second_one(monkeypatch: pytest.MonkeyPatch) -> None:
    with fit_module._caught_signals() as signals:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGINT)
        except KeyboardInterrupt:
            pytest.fail("the step was interrupted, and its state would be lost")
        assert len(signals) == 2
        monkeypatch.setattr(fit_module, "ECHO_SECONDS", -1.0)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the list of the steps whose state was written."""
    steps: list[int] = []

    def record(path: Path, state: State) -> None:
        steps.append(state.step)
        write_state(path, state)

    monkeypatch.setattr(fit_module, "write_state", record)
    return steps


def during(monkeypatch: pytest.MonkeyPatch, step: int, action: Any) -> None:
    """Call an action with the report of a step; its result, if any, replaces the report."""
    advance = Trainer.advance

    def patched(trainer: Trainer) -> Report:
        report = advance(trainer)
        return (action(report) or report) if report.step == step else report

    monkeypatch.setattr(Trainer, "advance", patched)


def test_a_state_is_written_when_the_file_is_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: list[int]
) -> None:
    during(monkeypatch, 2, lambda report: monkeypatch.setattr(fit_module, "SAVE_SECONDS", -1.0))
    during(monkeypatch, 4, lambda report: monkeypatch.setattr(fit_module, "SAVE_SECONDS", 300.0))
    during(monkeypatch, 6, lambda report: monkeypatch.setattr(fit_module, "SAVE_SECONDS", -1.0))
    assert fit(digits_recipe(), write_digits(tmp_path / "data"), Options(tmp_path / "folder"))
    assert written == [2, 3, 6]  # each step once, the last too


@pytest.fixture
def hangup() -> Iterator[None]:
    """Handle SIGHUP as a shell does, also if the tests run under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_an_interruption_writes_the_state_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: list[int], hangup: None, name: str
) -> None:
    during(monkeypatch, 3, lambda report: os.kill(os.getpid(), getattr(signal, name)))
    assert not fit(digits_recipe(), write_digits(tmp_path / "data"), Options(tmp_path / "folder"))
    assert written == [3]


def test_a_training_under_nohup_survives_its_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hangup: None
) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    during(monkeypatch, 3, lambda report: os.kill(os.getpid(), signal.SIGHUP))
    assert fit(digits_recipe(), write_digits(tmp_path / "data"), Options(tmp_path / "folder"))


def test_a_failing_validation_loses_no_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: list[int]
) -> None:
    def fail(trainer: Trainer) -> dict[str, float]:
        raise RuntimeError("a score failed")

    data, options = write_digits(tmp_path / "data"), Options(tmp_path / "folder", validate_every=4)
    monkeypatch.setattr(fit_module, "validate", fail)
    for _ in range(2):  # after step 4 and after the last step
        with pytest.raises(RuntimeError, match="a score failed"):
            fit(digits_recipe(), data, options)
    assert written == [4, 6]
    assert fit(digits_recipe(), data, options)


@pytest.mark.parametrize("figure", ["loss", "gradient"])
def test_a_diverging_training_keeps_the_last_good_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, figure: str
) -> None:
    data, state = write_digits(tmp_path / "data"), tmp_path / "folder" / STATE
    fit(digits_recipe(), data, Options(tmp_path / "folder", stop_after=2))
    before = state.read_bytes()
    monkeypatch.setattr(fit_module, "LOG_STEPS", 1)

    def diverge(report: Report) -> Report:
        figures = {"loss": report.loss, "gradient": report.gradient, figure: np.nan}
        return Report(report.step, levels=report.levels, **figures)

    during(monkeypatch, 4, diverge)
    with pytest.raises(InputError, match=r"training\.rate: expected a finite .* nan .*in step 4: .*diverged"):
        fit(digits_recipe(), data, Options(tmp_path / "folder", validate_every=1))
    assert read_state(state).step == 3 and "NaN" not in (tmp_path / "folder" / "log.jsonl").read_text()
    state.write_bytes(before)
    with pytest.raises(InputError):
        fit(digits_recipe(), data, Options(tmp_path / "folder"))
    assert state.read_bytes() == before


def test_a_diverging_rate_is_a_command_line_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipe.toml").write_text(RECIPE + "rate = 1e20\n")
    write_tones(tmp_path / "data", 4, 22050, 0.3)
    options = ["--folder", "folder", "--device", "cpu", "--validate-every", "0"]
    assert command.main(["fit", "recipe.toml", "--data", "data", *options]) == 2
    assert "error: training.rate: expected a finite loss" in capsys.readouterr().err
    assert not (tmp_path / "folder" / STATE).exists()


def test_the_time_of_a_step_excludes_validating_and_saving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=0.0)

    def advance_clock(seconds: float) -> dict[str, float]:
        clock.now += seconds
        return {}

    for module in (fit_module, log_module):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock.now))
    for step in range(1, 7):
        during(monkeypatch, step, lambda report: advance_clock(2.0) or report)
    monkeypatch.setattr(fit_module, "validate", lambda trainer: advance_clock(50.0))
    monkeypatch.setattr(fit_module, "write_state", lambda path, state: advance_clock(30.0))
    monkeypatch.setattr(fit_module, "LOG_STEPS", 3)
    monkeypatch.setattr(fit_module, "SAVE_SECONDS", -1.0)
    fit(digits_recipe(), write_digits(tmp_path / "data"), Options(tmp_path / "folder", validate_every=2))
    assert clock.now == 6 * 2.0 + 3 * 50.0 + 6 * 30.0
    lines = [json.loads(line) for line in (tmp_path / "folder" / "log.jsonl").read_text().splitlines()]
    assert [(line["step"], line["seconds_per_step"]) for line in lines] == [(3, 2.0), (6, 2.0)]
