"""`engine info`."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import engine
from engine.cli.info import gpu_kernels_json
from engine.config import BASE, LARGE, Config
from engine.diffusion.schedule import build_schedule
from engine.kernels import cpu
from engine.kernels import device as gpu_device
from engine.kernels.registry import Choice
from tests.support.commands import SMALL, Run, replace_gpu, save_network, unconditional_config
from tests.support.networks import random_network

OTHER = {"family": "philsyn", "shared_upsampler": False, "clamp": False, "padding": "reflect", "prior": True}


@pytest.mark.parametrize(
    ("config", "family", "needs"),
    [
        (SMALL, "lmnt", "a mel of kind lmnt"),
        (unconditional_config(), "lmnt", "no mel: 'engine generate' with --seconds"),
        (
            replace(SMALL, fast_schedule=None, mel_kind=None),
            "lmnt",
            "a mel of a kind that the file does not record: pass --mel-kind",
        ),
        (
            replace(SMALL, **OTHER),
            "philsyn: an upsampler per layer, reflection padding, no clamp, noise scaled by a prior",
            "a mel of kind lmnt; --energy-min (PriorGrad)",
        ),
    ],
)
def test_the_lines_of_a_checkpoint(workspace: Path, run: Run, config: Config, family: str, needs: str) -> None:
    path = save_network(Path("a.safetensors"), config)
    status, out, err = run("info", path, "--isa", "generic", "--threads", 3)
    assert (status, err) == (0, "")
    lines = [re.sub(" +", " ", line) for line in out.splitlines()]
    parameters = sum(tensor.size for tensor in random_network(config, 1).values())
    fast = "6 steps, beta 0.0001 to 0.5" if config.fast_schedule else "no schedule of its own"
    kind = config.mel_kind or "unknown"
    mel = (
        f"80 bands of kind {kind}, a frame every 256 samples" if config.n_mels else "none: the network is unconditional"
    )
    assert lines[:11] == [
        "file a.safetensors",
        f"size {path.stat().st_size:,} bytes",
        f"sha256 {hashlib.sha256(path.read_bytes()).hexdigest()}",
        f"family {family}",
        f"network DiffWave of another size: C=16, N=3, cycle 2, {parameters:,} parameters",
        f"mel {mel}",
        "sample rate 22050 Hz",
        "training 50 steps, beta 0.0001 to 0.05",
        f"fast {fast}",
        f"needs {needs}",
        "",
    ]
    explanation = engine.load(path, isa="generic", threads=3).explain().splitlines()
    begin = lines.index("on this machine:") + 1
    assert [line.strip() for line in lines[begin : begin + len(explanation)]] == explanation
    assert "isa generic: requested" in explanation and "threads 3: requested" in explanation


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (
            SMALL,
            [
                "1 levels of the fast schedule: noise 0.790; beta 0.624214",
                "2 levels of the fast schedule: noise 0.105 0.790; beta 0.0110889 0.62",
                "3 levels of the fast schedule: noise 0.010 0.246 0.790; beta 0.0001 0.0604405 0.6",
                "4 levels of the fast schedule: noise 0.010 0.105 0.498 0.790; beta 0.0001 0.01099 0.24 0.5",
                "5 levels of the fast schedule: noise 0.010 0.105 0.246 0.498 0.790; beta 0.0001 0.01099 0.05 0.2 0.5",
                "6 the fast schedule: noise 0.010 0.033 0.105 0.246 0.498 0.790; beta 0.0001 0.001 0.01 0.05 0.2 0.5",
                "50 the training schedule: noise 0.010 to 0.849; beta 0.0001 to 0.05",
            ],
        ),
        (
            replace(SMALL, fast_schedule=(0.01, 0.02, 0.03, 0.2), schedules=((0.1, 0.5), (0.01,) * 9)),
            [
                "2 the checkpoint's own: noise 0.316 0.742; beta 0.1 0.5",
                "4 the fast schedule: noise 0.100 0.173 0.243 0.497; beta 0.01 0.02 0.03 0.2",
                "9 the checkpoint's own: noise 0.100 to 0.294; beta 0.01 to 0.01",
                "50 the training schedule: noise 0.010 to 0.849; beta 0.0001 to 0.05",
            ],
        ),
    ],
)
def test_the_numbers_of_steps(workspace: Path, run: Run, config: Config, expected: list[str]) -> None:
    path = save_network(Path("a.safetensors"), config)
    lines = [re.sub(" +", " ", line).strip() for line in run("info", path)[1].splitlines()]
    begin = lines.index("steps:") + 1
    assert lines[begin : lines.index("", begin)] == expected
    rows = json.loads(run("info", path, "--json")[1])["steps"]
    assert [row["steps"] for row in rows] == [int(line.split()[0]) for line in expected]
    for row in rows:
        plan = build_schedule(config, row["steps"])
        assert (row["betas"], row["t"]) == ([*plan.beta[::-1]], [*plan.t[::-1]])
        np.testing.assert_allclose(np.square(row["noise"]), 1.0 - np.array(plan.alpha_bar[::-1]), rtol=1e-12)
        assert row["look_ahead"] == config.look_ahead(row["steps"])


def test_classes_and_the_length_of_clips(workspace: Path, run: Run) -> None:
    names = tuple(f"{digit} {speaker}" for digit in range(4) for speaker in ("ann", "ben"))
    config = replace(unconditional_config(), classes=names, clip_samples=11025)
    out = run("info", save_network(Path("a.safetensors"), config))[1]
    line = "classes      8: '0', '1', '2', '3', or a whole name such as '0 ann'\n"
    assert f"mel          none: conditioned on a class\n{line}clips        11025 samples, 0.5 s\n" in out
    assert (
        "needs        no mel: 'engine generate' with --label\n" in out
        and "no mel" not in out.partition("on this machine")[2]
    )
    assert "guidance" not in out
    save_network(Path("a.safetensors"), replace(config, classes=("3",), clip_samples=0, guidance=1.5, temperature=0.9))
    out = run("info", "a.safetensors")[1]
    assert "classes      1: '3'\nguidance     1.5\ntemperature  0.9\n" in out
    assert (
        "classes      1: '3'\n" in out
        and "clips " not in out
        and "'engine generate' with --label and --seconds\n" in out
    )


def test_the_objective_of_a_tuned_network(workspace: Path, run: Run) -> None:
    for objective in ("", "3 steps: noise prediction"):
        path = save_network(Path("a.safetensors"), replace(SMALL, objective=objective))
        lines = run("info", path)[1].splitlines()
        assert [line for line in lines if line.startswith("objective")] == [f"objective    {objective}"][
            : len(objective)
        ]
        assert json.loads(run("info", path, "--json")[1])["objective"] == (objective or None)


def test_the_name_of_the_preset(workspace: Path, run: Run) -> None:
    slim = {"residual_layers": 30, "dilation_cycle": 10}
    for config, name in (
        (BASE, "DiffWave BASE"),
        (replace(BASE, train_schedule=BASE.train_schedule[:20]), "DiffWave BASE"),
        (LARGE, "DiffWave LARGE"),
        (replace(SMALL, **slim), "DiffWave of another size"),
    ):
        assert f" {name}: C=" in run("info", save_network(Path("a.safetensors"), config))[1]


def test_the_tiers_of_the_build(workspace: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    tiers = [
        (*cpu.tiers()[0][:2], "any processor", ["fp32"]),
        ("newest", False, "a chip of next year", ["fp32", "bf16"]),
    ]
    monkeypatch.setattr(cpu, "tiers", lambda: tiers)
    out = run("info", "small.safetensors")[1]
    assert "tier generic     available, fp32\n" in out
    assert "tier newest      unavailable, needs a chip of next year\n" in out


def test_the_kernels_of_a_gpu(workspace: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_device, "obstacle", lambda index=0: "none here")
    assert "\n  gpu " not in run("info", "small.safetensors")[1]
    replace_gpu(monkeypatch)
    command = ("info", "small.safetensors", "--device", "cpu")
    why = "needs compute capability 9.0, this GPU is sm_80"
    assert run(*command)[1].endswith(
        f"  gpu  mma         available, residual layers in groups, in CUDA\n  gpu  sm_90a      unavailable, {why}\n"
    )
    assert json.loads(run(*command, "--json")[1])["gpu_kernels"] == [
        {"name": "mma", "available": True, "obstacle": None},
        {"name": "sm_90a", "available": False, "obstacle": why},
    ]
    path = save_network(Path("a.safetensors"), replace(SMALL, padding="reflect"))
    supported = "supports zero padding, this network has padding='reflect'"
    assert f"  gpu  mma         unavailable, {supported}\n" in run("info", path, "--device", "cpu")[1]


def test_a_gpu_that_does_not_work_has_no_kernels(workspace: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_device, "obstacle", broken)
    status, out, _ = run("info", "small.safetensors", "--device", "cpu", "--json")
    assert status == 0 and json.loads(out)["gpu_kernels"] == []


def broken(index: int = 0) -> str | None:
    raise RuntimeError("CUDA error: unknown error")


def test_the_kernels_are_those_for_the_chosen_gpu_and_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    replace_gpu(monkeypatch, ("sm_80", "sm_90"))
    voice = SimpleNamespace(config=BASE, choice=Choice("cuda", "sm_90", "bf16", (), 1))
    assert all(row["available"] for row in gpu_kernels_json(voice))  # type: ignore[arg-type]
    voice.choice = Choice("cuda", "sm_80", "tf32", (), 0)
    found = [row["obstacle"] for row in gpu_kernels_json(voice)]  # type: ignore[arg-type]
    assert re.match("supports up to 64 channels in fp16 and bf16, this network has 64 in tf32", found[0])
    assert found[1].startswith("needs compute capability 9.0")
