"""`engine convert`."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import engine
from engine.checkpoint.bundled import BUNDLED
from engine.checkpoint.load import load_checkpoint
from tests.support.commands import SMALL, Run, error_of, save_network, unconditional_config
from tests.support.layouts import random_checkpoint
from tests.support.networks import random_network


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_the_type_of_the_weights(workspace: Path, run: Run, dtype: str) -> None:
    tensors = random_network(SMALL, 1)
    params = {
        "residual_channels": 16,
        "dilation_cycle_length": 2,
        "sample_rate": 22050,
        "noise_schedule": list(SMALL.train_schedule),
        "inference_noise_schedule": list(SMALL.fast_schedule or ()),
    }
    torch.save({"model": {k: torch.from_numpy(v) for k, v in tensors.items()}, "params": params}, "weights.pt")
    status, out, err = run("convert", "weights.pt", "-o", "out.safetensors", "--dtype", dtype)
    assert (status, out, err) == (0, "wrote out.safetensors\n", "")
    converted = load_checkpoint("out.safetensors")
    assert converted.config == SMALL
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(converted.tensors[name], tensor.astype(dtype).astype(np.float32))


def test_a_bundled_network_by_name(workspace: Path, run: Run) -> None:
    assert run("convert", "voice", "-o", "out.safetensors", "--dtype", "float16")[0] == 0
    assert load_checkpoint(workspace / "out.safetensors").config == load_checkpoint(BUNDLED).config


def test_the_configuration_of_another_file(workspace: Path, run: Run) -> None:
    checkpoint = random_checkpoint(workspace, "philsyn")
    (workspace / "config.json").rename("config_64.json")
    arguments = ["convert", checkpoint.path.name, "-o", "out.safetensors"]
    assert "put them into config.json" in error_of(run, *arguments)
    assert error_of(run, *arguments, "--config", "absent.json").startswith("absent.json: ")
    assert run(*arguments, "--config", "config_64.json") == (0, "wrote out.safetensors\n", "")
    assert load_checkpoint("out.safetensors").config == checkpoint.config


def test_the_kind_of_mel_is_recorded(workspace: Path, run: Run) -> None:
    save_network(Path("unknown.safetensors"), replace(SMALL, mel_kind=None))
    assert run("convert", "unknown.safetensors", "-o", "out.safetensors", "--mel-kind", "hifigan")[0] == 0
    assert load_checkpoint("out.safetensors").config.mel_kind == "hifigan"


def test_calibration(workspace: Path, run: Run) -> None:
    config = replace(SMALL, residual_layers=6)
    save_network(Path("six.safetensors"), config)
    np.save("speech.npy", np.random.default_rng(0).random((config.n_mels, 12), np.float32))
    mels = ("speech.npy", "speech.npy")
    status, out, err = run("convert", "six.safetensors", "-o", "out.safetensors", "--calibrate", *mels)
    assert (status, err) == (0, "")
    agreement = r"int8 agrees with fp32 by \d+\.\d dB \(eps\) and \d+\.\d dB \(audio\)"
    assert re.fullmatch(rf"{agreement}\nwrote out.safetensors\n", out)
    ranges = load_checkpoint("out.safetensors").config.int8_ranges
    assert ranges[:3] == (0.0, 0.0, 0.0) and min(ranges[3:]) > 0.0
    assert engine.load("out.safetensors", device="cpu", precision="int8").choice.precision == "int8"


def test_impossible_calibrations(workspace: Path, run: Run) -> None:
    np.save("narrow.npy", np.zeros((SMALL.n_mels - 1, 12), np.float32))
    np.save("speech.npy", np.zeros((SMALL.n_mels, 12), np.float32))
    save_network(Path("free.safetensors"), unconditional_config())
    for model, mel, message in (
        ("small.safetensors", "narrow.npy", "mel"),
        ("small.safetensors", "absent.npy", "absent.npy"),
        ("free.safetensors", "speech.npy", "calibrate: expected a vocoder with white noise"),
        ("small.safetensors", "speech.npy", "calibrate: expected more than 3 residual layers"),
    ):
        status, out, err = run("convert", model, "-o", "out.safetensors", "--calibrate", mel)
        assert status == 2 and out == "" and message in err and err.count("\n") == 1
        assert not Path("out.safetensors").exists()
