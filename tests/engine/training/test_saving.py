"""When a training's state is written: in time, before what may fail, when signals ask for an end; and when not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engine.errors import InputError
from engine.training import __main__ as command
from engine.training import fit as fitting
from engine.training.fit import STATE, Options, fit
from engine.training.settings import read_recipe
from engine.training.state import State, read_state, write_state
from engine.training.trainer import Report, Trainer
from tests.engine.training.recordings import digits_recipe, recipe_text, spoken, tones

RECIPE = recipe_text(frames=1, steps=100, batch=2)
# The command, for which another process makes batches, as beside a GPU.
COMMAND = """
import sys
from engine.training.__main__ import main
from engine.training.processes import Processes

Processes.workers = 1
sys.exit(main())
"""


def same(one: State, other: State) -> bool:
    return one.step == other.step and all(
        torch.equal(tensor, other.tensors[part][name])
        for part, tensors in one.tensors.items()
        for name, tensor in tensors.items()
    )


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Sums of several threads have no fixed order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_a_signal_to_all_processes_and_the_training_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    """As schedulers and `timeout` send it: to the whole group, the processes that make batches among it."""
    (tmp_path / "recipe.toml").write_text(RECIPE)
    data, log = tones(tmp_path / "data", 4, 22050, 0.3), tmp_path / "broken" / "log.jsonl"
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
    said = process.communicate(timeout=120)[1].decode()
    assert process.returncode == 130, said
    assert 50 <= read_state(tmp_path / "broken" / STATE).step < 100
    for folder in ("broken", "whole"):
        assert fit(read_recipe(tmp_path / "recipe.toml"), data, Options(tmp_path / folder))
    assert same(read_state(tmp_path / "whole" / STATE), read_state(tmp_path / "broken" / STATE))


def test_a_signal_that_torchrun_repeats_is_not_a_second_one(monkeypatch: pytest.MonkeyPatch) -> None:
    with fitting._interruption() as got:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGINT)
        except KeyboardInterrupt:
            pytest.fail("the step in hand was not finished, and no state written")
        assert len(got) == 2
        monkeypatch.setattr(fitting, "ECHO_SECONDS", -1.0)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The steps whose state was written."""
    steps: list[int] = []

    def note(path: Path, state: State) -> None:
        steps.append(state.step)
        write_state(path, state)

    monkeypatch.setattr(fitting, "write_state", note)
    return steps


def during(monkeypatch: pytest.MonkeyPatch, step: int, what: Any) -> None:
    """Something happens in a step; what it returns, if anything, is the step's report."""
    advance = Trainer.advance

    def changed(trainer: Trainer) -> Report:
        report = advance(trainer)
        return (what(report) or report) if report.step == step else report

    monkeypatch.setattr(Trainer, "advance", changed)


def test_a_state_is_written_when_the_last_is_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: list[int]
) -> None:
    during(monkeypatch, 2, lambda report: monkeypatch.setattr(fitting, "SAVE_SECONDS", -1.0))
    during(monkeypatch, 4, lambda report: monkeypatch.setattr(fitting, "SAVE_SECONDS", 300.0))
    during(monkeypatch, 6, lambda report: monkeypatch.setattr(fitting, "SAVE_SECONDS", -1.0))
    assert fit(digits_recipe(), spoken(tmp_path / "data"), Options(tmp_path / "folder"))
    assert written == [2, 3, 6]  # each once, the last too


def test_an_interruption_writes_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: list[int]) -> None:
    during(monkeypatch, 3, lambda report: os.kill(os.getpid(), signal.SIGTERM))
    assert not fit(digits_recipe(), spoken(tmp_path / "data"), Options(tmp_path / "folder"))
    assert written == [3]


def test_a_validation_that_fails_loses_no_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: list[int]
) -> None:
    def fail(trainer: Trainer) -> dict[str, float]:
        raise RuntimeError("a measure failed")

    data, options = spoken(tmp_path / "data"), Options(tmp_path / "folder", validate_every=4)
    monkeypatch.setattr(fitting, "validate", fail)
    for _ in range(2):  # after step 4, and after the last
        with pytest.raises(RuntimeError, match="a measure failed"):
            fit(digits_recipe(), data, options)
    assert written == [4, 6]
    assert fit(digits_recipe(), data, options)


@pytest.mark.parametrize("figure", ["loss", "gradient"])
def test_a_training_that_diverges_leaves_the_state_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, figure: str
) -> None:
    data, state = spoken(tmp_path / "data"), tmp_path / "folder" / STATE
    fit(digits_recipe(), data, Options(tmp_path / "folder", stop_after=2))
    before = state.read_bytes()
    monkeypatch.setattr(fitting, "LOG_STEPS", 1)

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


def test_too_high_a_rate_is_an_error_of_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipe.toml").write_text(RECIPE + "rate = 1e20\n")
    tones(tmp_path / "data", 4, 22050, 0.3)
    options = ["--folder", "folder", "--device", "cpu", "--validate-every", "0"]
    assert command.main(["fit", "recipe.toml", "--data", "data", *options]) == 2
    assert "error: training.rate: expected a finite loss" in capsys.readouterr().err
    assert not (tmp_path / "folder" / STATE).exists()


def test_the_time_of_a_step_is_not_that_of_validating_and_saving(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slowly(path: Path, state: State) -> None:
        time.sleep(0.3)
        write_state(path, state)

    monkeypatch.setattr(fitting, "validate", lambda trainer: time.sleep(0.3) or {})
    monkeypatch.setattr(fitting, "write_state", slowly)
    monkeypatch.setattr(fitting, "LOG_STEPS", 3)
    monkeypatch.setattr(fitting, "SAVE_SECONDS", -1.0)
    fit(digits_recipe(), spoken(tmp_path / "data"), Options(tmp_path / "folder", validate_every=2))
    lines = [json.loads(line) for line in (tmp_path / "folder" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [3, 6]
    assert all(0 < line["seconds_per_step"] < 0.2 for line in lines)
