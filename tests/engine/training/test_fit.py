"""A training from beginning to end: it learns, goes on where it was left, and does so in any number of processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.errors import CheckpointError, InputError
from engine.training import __main__ as command
from engine.training.fit import STATE, Options, check_precision, fit
from engine.training.settings import Recipe
from engine.training.state import State, read_state
from tests.engine.training.recordings import digits_recipe, recipe_text, spoken, tones, voice_recipe
from tests.support.tolerances import TOLERANCES, relative_error

RECIPE = recipe_text(frames=4, steps=3, batch=4)

LAUNCHER = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


@pytest.fixture(autouse=True)
def one_thread() -> object:
    """Sums of several threads have no fixed order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def same(one: State, other: State) -> bool:
    return one.step == other.step and all(
        torch.equal(tensor, other.tensors[part][name])
        for part, tensors in one.tensors.items()
        for name, tensor in tensors.items()
    )


PRIOR = voice_recipe(network={"mel_kind": "hifigan", "prior": True, "energy_min": 0.05})


@pytest.mark.parametrize("recipe", [voice_recipe(), PRIOR, digits_recipe()], ids=["voice", "prior", "digits"])
def test_a_training_in_two_parts_is_the_training(tmp_path: Path, recipe: Recipe) -> None:
    data = tones(tmp_path / "data", 5, 22050, 0.3) if recipe.network.n_mels else spoken(tmp_path / "data")
    assert fit(recipe, data, Options(tmp_path / "whole"))
    assert not fit(recipe, data, Options(tmp_path / "parts", stop_after=2))
    assert read_state(tmp_path / "parts" / STATE).step == 2
    assert fit(recipe, data, Options(tmp_path / "parts"))
    whole, parts = (read_state(tmp_path / folder / STATE) for folder in ("whole", "parts"))
    assert same(whole, parts) and whole.step == 6
    changed = State(whole.step, whole.recipe, whole.classes, {**whole.tensors, "average": whole.tensors["weights"]})
    assert not same(changed, parts)


def test_two_processes_share_the_batch(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text(RECIPE)
    tones(tmp_path / "data", 4, 22050, 0.3)
    runs = {"one": [], "two": LAUNCHER}
    for folder, launcher in runs.items():
        arguments = ["fit", "recipe.toml", "--data", "data", "--folder", folder, "--device", "cpu", "--threads", "1"]
        subprocess.run(
            [sys.executable, *launcher, "-m", "engine.training", *arguments, "--validate-every", "0"],
            cwd=tmp_path,
            check=True,
            capture_output=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
    one, two = (read_state(tmp_path / folder / STATE) for folder in runs)
    worst = max(relative_error(two.tensors["weights"][k], v) for k, v in one.tensors["weights"].items())
    assert worst < TOLERANCES["training_processes"]
    logs = [json.loads((tmp_path / folder / "log.jsonl").read_text().splitlines()[-1]) for folder in runs]
    assert logs[0]["loss"] == pytest.approx(logs[1]["loss"], rel=1e-4)


def test_a_training_learns(tmp_path: Path) -> None:
    data = tones(tmp_path / "data", 8, 22050, 0.3)
    recipe = voice_recipe(training={"steps": 100, "warmup": 10, "rate": 3e-3})
    fit(recipe, data, Options(tmp_path / "folder"))
    lines = [json.loads(line) for line in (tmp_path / "folder" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [50, 100]
    # The mean of |eps| is 0.8; the first 50 steps gave 0.460, the next 0.409.
    assert lines[-1]["loss"] < min(0.94 * lines[0]["loss"], 0.44)


def test_another_recipe_does_not_go_on(tmp_path: Path) -> None:
    data = tones(tmp_path / "data", 4, 22050, 0.3)
    fit(voice_recipe(), data, Options(tmp_path / "folder", stop_after=1))
    with pytest.raises(InputError, match="the training in this folder has another one"):
        fit(voice_recipe(training={"rate": 2e-3}), data, Options(tmp_path / "folder"))


def test_a_damaged_state_is_refused(tmp_path: Path) -> None:
    data = tones(tmp_path / "data", 4, 22050, 0.3)
    fit(voice_recipe(), data, Options(tmp_path / "folder", stop_after=1))
    whole = (tmp_path / "folder" / STATE).read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", np.random.default_rng(0).bytes(100)):
        (tmp_path / "folder" / STATE).write_bytes(damaged)
        with pytest.raises(CheckpointError, match="expected the state of a training"):
            fit(voice_recipe(), data, Options(tmp_path / "folder"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fit", "nothing", "--data", ".", "--folder", "x"], "bundled recipes"),
        (
            ["fit", "digits", "--data", "nowhere", "--folder", "x", "--device", "cpu"],
            "there is no directory 'nowhere'",
        ),
        (["fit", "digits", "--data", ".", "--folder", "x", "--threads", "0"], "threads: expected at least 1, got 0"),
        (["export", "nowhere", "-o", "x.safetensors"], "expected the state of a training"),
    ],
)
def test_the_command_says_what_is_wrong(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert command.main(arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and message in said and said.count("\n") == 1


def test_without_a_folder_it_has_the_name_of_its_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "small.toml").write_text(RECIPE)
    tones(tmp_path / "data", 4, 22050, 0.3)
    arguments = ["fit", "recipes/small.toml", "--data", "data", "--device", "cpu", "--validate-every", "0"]
    assert command.main(arguments) == 0
    assert read_state(tmp_path / "small-training" / STATE).step == 3
    assert f"done: {Path('small-training') / STATE}" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        command.main(["fit", "--help"])
    assert "default: NAME-training" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(("multiplied", "expected"), [(True, "bf16"), (False, "fp32")])
def test_auto_is_what_the_hardware_multiplies(monkeypatch: pytest.MonkeyPatch, multiplied: bool, expected: str) -> None:
    """PyTorch emulates bf16 on any GPU, more slowly than it computes in float32."""
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or multiplied
    )
    assert check_precision("auto", "cuda") == expected
    assert check_precision("fp32", "cuda") == "fp32" and check_precision("bf16", "cuda") == "bf16"
