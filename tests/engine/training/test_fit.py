"""A whole training: it learns, resumes to the same weights, and gives the same result on several processes."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.bulk.locks import locked
from engine.errors import CheckpointError, InputError
from engine.training import __main__ as command
from engine.training.fit import LOCK, STATE, Options, fit, resolve_precision
from engine.training.settings import Recipe, read_recipe
from engine.training.state import State, read_state
from tests.engine.training.recordings import (
    digits_recipe,
    recipe_text,
    unrolled_recipe,
    voice_recipe,
    write_digits,
    write_tones,
)
from tests.engine.training.states import equal_states
from tests.support.tolerances import TOLERANCES, relative_error

RECIPE = recipe_text(frames=4, steps=3, batch=4)
PRIOR = voice_recipe(network={"mel_kind": "hifigan", "prior": True, "energy_min": 0.05})
FIT = ["-m", "engine.training", "fit", "recipe.toml", "--data", "data", "--folder", "two", "--device", "cpu"]
FIT += ["--precision", "fp32", "--threads", "1", "--validate-every", "0"]


RECIPES = {
    "voice": voice_recipe(),
    "prior": PRIOR,
    "energy": voice_recipe(training={"weight": "energy"}),
    "digits": digits_recipe(),
    "unrolled": unrolled_recipe(unroll={"steps": [2, 1]}),
    "adversarial": unrolled_recipe(unroll={"adversarial": 1.0, "adversarial_after": 0.1}),  # from the second step
}


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_an_interrupted_training_resumes_to_the_same_weights(tmp_path: Path, recipe: Recipe) -> None:
    data = write_tones(tmp_path / "data", 5, 22050, 0.3) if recipe.network.n_mels else write_digits(tmp_path / "data")
    assert fit(recipe, data, Options(tmp_path / "whole"))
    assert not fit(recipe, data, Options(tmp_path / "parts", stop_after=2))
    assert read_state(tmp_path / "parts" / STATE).step == 2
    assert fit(recipe, data, Options(tmp_path / "parts"))
    whole, parts = (read_state(tmp_path / folder / STATE) for folder in ("whole", "parts"))
    assert equal_states(whole, parts) and whole.step == 6
    changed = State(whole.step, whole.recipe, whole.classes, {**whole.tensors, "average": whole.tensors["weights"]})
    assert not equal_states(changed, parts)


def compare_processes(folder: Path) -> None:
    """Compare the training in the folder "two" with the same training in this process."""
    fit(read_recipe(folder / "recipe.toml"), folder / "data", Options(folder / "one"))
    alone, shared = (read_state(folder / name / STATE) for name in ("one", "two"))
    assert alone.step == shared.step == 3
    errors = [
        relative_error(shared.tensors["weights"][name], tensor) for name, tensor in alone.tensors["weights"].items()
    ]
    assert max(errors) < TOLERANCES["training_processes"]
    logs = [json.loads((folder / name / "log.jsonl").read_text().splitlines()[-1]) for name in ("one", "two")]
    assert logs[0]["loss"] == pytest.approx(logs[1]["loss"], rel=1e-4)


def test_two_processes_share_the_batch(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text(RECIPE)
    write_tones(tmp_path / "data", 4, 22050, 0.3)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
    torchrun = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
    workers = [
        subprocess.Popen(
            [sys.executable, *FIT], cwd=tmp_path, env={**os.environ, **torchrun, "RANK": rank, "LOCAL_RANK": rank}
        )
        for rank in "01"
    ]
    try:
        assert [worker.wait(timeout=120) for worker in workers] == [0, 0]
    finally:
        for worker in workers:
            worker.kill()
    compare_processes(tmp_path)


@pytest.mark.slow
def test_torchrun_starts_two_processes(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text(RECIPE)
    write_tones(tmp_path / "data", 4, 22050, 0.3)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    subprocess.run([*launcher, *FIT], cwd=tmp_path, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    compare_processes(tmp_path)


def test_a_training_learns(tmp_path: Path) -> None:
    data = write_tones(tmp_path / "data", 8, 22050, 0.3)
    recipe = voice_recipe(training={"steps": 100, "warmup": 10, "rate": 3e-3})
    fit(recipe, data, Options(tmp_path / "folder"))
    lines = [json.loads(line) for line in (tmp_path / "folder" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [50, 100]
    # The mean of |eps| is 0.8; the first 50 steps gave 0.460, the next 0.409.
    assert lines[-1]["loss"] < min(0.94 * lines[0]["loss"], 0.44)


def test_another_recipe_does_not_resume(tmp_path: Path) -> None:
    data = write_tones(tmp_path / "data", 4, 22050, 0.3)
    fit(voice_recipe(), data, Options(tmp_path / "folder", stop_after=1))
    with pytest.raises(InputError, match=r"folder.state\.safetensors: expected a training with this recipe, got one"):
        fit(voice_recipe(training={"rate": 2e-3}), data, Options(tmp_path / "folder"))


def test_a_damaged_state_is_refused(tmp_path: Path) -> None:
    data = write_tones(tmp_path / "data", 4, 22050, 0.3)
    fit(voice_recipe(), data, Options(tmp_path / "folder", stop_after=1))
    content = (tmp_path / "folder" / STATE).read_bytes()
    for damaged in (content[: len(content) // 2], b"", np.random.default_rng(0).bytes(100)):
        (tmp_path / "folder" / STATE).write_bytes(damaged)
        with pytest.raises(CheckpointError, match="expected the state of a training"):
            fit(voice_recipe(), data, Options(tmp_path / "folder"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fit", "nothing", "--data", ".", "--folder", "x"], "error: nothing: No such file or directory; bundled"),
        (
            ["fit", "digits", "--data", "nowhere", "--folder", "x", "--device", "cpu"],
            "error: --data: there is no directory 'nowhere'",
        ),
        (["fit", "digits", "--data", ".", "--folder", "x", "--threads", "0"], "error: --threads: expected at least 1"),
        (
            ["fit", "digits", "--data", ".", "--folder", "x", "--device", "cpu", "--validate-every", "-5"],
            "error: --validate-every: expected at least 0, got -5",
        ),
        (
            ["fit", "digits", "--data", "nowhere", "--folder", "file/x", "--device", "cpu"],
            "error: --folder: cannot write into 'file': it is not a directory",
        ),
        (
            ["fit", "digits", "--data", "nowhere", "--folder", "link", "--device", "cpu"],
            "error: --folder: cannot write into 'link'",
        ),
        (["export", "nowhere", "-o", "x.safetensors"], "error: nowhere: expected the state of a training"),
        (["export", "nowhere", "-o", "x.npy"], "error: -o: expected a name that ends in .safetensors"),
    ],
)
def test_errors_name_the_file_or_the_flag(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("nothing")
    assert command.main(arguments) == 2
    err = capsys.readouterr().err
    assert err.startswith(message) and err.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [(KeyboardInterrupt(), 130, "interrupted\n"), (MemoryError("no room for 9 GiB"), 1, "error: no room for 9 GiB\n")],
)
def test_an_interruption_before_the_first_step_is_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    status: int,
    message: str,
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("engine.training.fit.read_corpus", fail)
    arguments = ["fit", "digits", "--data", str(tmp_path), "--folder", str(tmp_path / "x"), "--device", "cpu"]
    assert command.main(arguments) == status
    assert capsys.readouterr().err == message and not (tmp_path / "x").exists()


def test_two_trainings_do_not_share_a_folder(tmp_path: Path) -> None:
    data = write_tones(tmp_path / "data", 4, 22050, 0.3)
    (tmp_path / "folder").mkdir()
    with locked(tmp_path / "folder" / LOCK), pytest.raises(InputError, match="folder: another process trains in"):
        fit(voice_recipe(), data, Options(tmp_path / "folder"))
    assert fit(voice_recipe(), data, Options(tmp_path / "folder"))


@pytest.mark.parametrize("arguments", [[], ["fit"], ["export"], ["pack"]])
def test_help_fits_80_columns_and_has_an_example(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        command.main([*arguments, "--help"])
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    assert "example" in text and f"python -m engine.training {' '.join(arguments)}" in text


def test_the_default_folder_has_the_name_of_the_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "small.toml").write_text(RECIPE)
    write_tones(tmp_path / "data", 4, 22050, 0.3)
    arguments = ["fit", "recipes/small.toml", "--data", "data", "--device", "cpu", "--validate-every", "0"]
    assert command.main(arguments) == 0
    assert read_state(tmp_path / "small-training" / STATE).step == 3
    assert f"done: {Path('small-training') / STATE}" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        command.main(["fit", "--help"])
    assert "default:NAME-training" in "".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(("multiplied", "expected"), [(True, "bf16"), (False, "fp32")])
def test_auto_precision_is_bf16_on_hardware_that_multiplies_it(
    monkeypatch: pytest.MonkeyPatch, multiplied: bool, expected: str
) -> None:
    """PyTorch emulates bf16 on any GPU, which is slower than float32."""
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or multiplied
    )
    assert resolve_precision("auto", "cuda") == expected
    assert resolve_precision("fp32", "cuda") == "fp32" and resolve_precision("bf16", "cuda") == "bf16"
