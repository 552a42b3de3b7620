"""The commands that are about checkpoints: what `engine info` says of them, and `engine convert`."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import engine
from engine.bundled import BUNDLED
from engine.checkpoint.load import load_checkpoint
from engine.config import BASE, LARGE, Config
from engine.kernels import cpu
from tests.support.commands import SMALL, Run, saved, unconditional
from tests.support.layouts import random_checkpoint
from tests.support.networks import random_network

OTHER = {"family": "philsyn", "shared_upsampler": False, "clamp": False, "padding": "reflect", "prior": True}


@pytest.mark.parametrize(
    ("config", "family", "needs"),
    [
        (SMALL, "lmnt", "a mel of kind lmnt"),
        (unconditional(), "lmnt", "no mel: generate(seconds=)"),
        (
            replace(SMALL, fast_schedule=None, mel_kind=None),
            "lmnt",
            "a mel of a kind that the file does not say (mel= or --mel-kind does)",
        ),
        (
            replace(SMALL, **OTHER),
            "philsyn: an upsampler per layer, reflecting padding, no clamp, noise scaled by a prior",
            "a mel of kind lmnt; energy_min or std (PriorGrad)",
        ),
    ],
)
def test_info(here: Path, run: Run, config: Config, family: str, needs: str) -> None:
    path = saved(Path("a.safetensors"), config)
    status, out, err = run("info", path, "--isa", "generic", "--threads", 3)
    assert (status, err) == (0, "")
    lines = [re.sub(" +", " ", line) for line in out.splitlines()]
    parameters = sum(tensor.size for tensor in random_network(config, 1).values())
    fast = "6 steps, beta 0.0001 to 0.5" if config.fast_schedule else "none of its own"
    kind = config.mel_kind or "unknown"
    mel = (
        f"80 bands of kind {kind}, a frame every 256 samples" if config.n_mels else "none: the network is unconditional"
    )
    assert lines[:11] == [
        "file a.safetensors",
        f"size {path.stat().st_size:,} bytes",
        f"sha256 {hashlib.sha256(path.read_bytes()).hexdigest()}",
        f"family {family}",
        f"network DiffWave of its own size: C=16, N=3, cycle 2, {parameters:,} parameters",
        f"mel {mel}",
        "sample rate 22050 Hz",
        "training 50 steps, beta 0.0001 to 0.05",
        f"fast {fast}",
        f"needs {needs}",
        "",
    ]
    explained = engine.load(path, isa="generic", threads=3).explain().splitlines()
    assert [line.strip() for line in lines[12 : 12 + len(explained)]] == explained
    assert "isa generic: asked for" in explained and "threads 3" in explained


def test_info_shows_classes_and_the_length_of_clips(here: Path, run: Run) -> None:
    names = tuple(f"{digit} {who}" for digit in range(4) for who in ("ann", "ben"))
    config = replace(unconditional(), classes=names, clip_samples=11025)
    out = run("info", saved(Path("a.safetensors"), config))[1]
    shown = "classes      8: '0', '1', '2', '3', or a whole name such as '0 ann'\n"
    assert f"mel          none: a class is asked for instead\n{shown}clips        11025 samples, 0.5 s\n" in out
    assert "needs        no mel: generate(label=)\n" in out and "no mel" not in out.partition("on this machine")[2]
    assert "guidance" not in out
    saved(Path("a.safetensors"), replace(config, classes=("3",), clip_samples=0, guidance=1.5))
    out = run("info", "a.safetensors")[1]
    assert "classes      1: '3'\nguidance     1.5\n" in out
    assert "classes      1: '3'\n" in out and "clips " not in out and "generate(label=, seconds=)" in out


def test_info_knows_the_presets(here: Path, run: Run) -> None:
    slim = {"residual_layers": 30, "dilation_cycle": 10}
    for config, name in (
        (BASE, "DiffWave BASE"),
        (replace(BASE, train_schedule=BASE.train_schedule[:20]), "DiffWave BASE"),
        (LARGE, "DiffWave LARGE"),
        (replace(SMALL, **slim), "DiffWave of its own size"),
    ):
        assert f" {name}: C=" in run("info", saved(Path("a.safetensors"), config))[1]


def test_info_lists_the_tiers(here: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    tiers = [
        (*cpu.tiers()[0][:2], "any processor", ["fp32"]),
        ("newest", False, "a chip of next year", ["fp32", "bf16"]),
    ]
    monkeypatch.setattr(cpu, "tiers", lambda: tiers)
    out = run("info", "small.safetensors")[1]
    assert "tier generic     available, fp32\n" in out
    assert "tier newest      unavailable, needs a chip of next year\n" in out


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_convert(here: Path, run: Run, dtype: str) -> None:
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
    made = load_checkpoint("out.safetensors")
    assert made.config == SMALL
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(made.tensors[name], tensor.astype(dtype).astype(np.float32))


def test_convert_takes_a_bundled_network_by_its_name(here: Path, run: Run) -> None:
    assert run("convert", "voice", "-o", "out.safetensors", "--dtype", "float16")[0] == 0
    assert load_checkpoint(here / "out.safetensors").config == load_checkpoint(BUNDLED).config
    status, _, err = run("convert", "voyce", "-o", "other.safetensors")
    assert status == 2 and "expected a file or one of 'voice'" in err and not (here / "other.safetensors").exists()


def test_convert_takes_the_configuration_from_elsewhere(here: Path, run: Run) -> None:
    made = random_checkpoint(here, "philsyn")
    (here / "config.json").rename("config_64.json")
    arguments = ["convert", made.path.name, "-o", "out.safetensors"]
    assert run(*arguments)[0] == 2
    assert run(*arguments, "--config", "absent.json")[0] == 2
    assert not Path("out.safetensors").exists()
    assert run(*arguments, "--config", "config_64.json") == (0, "wrote out.safetensors\n", "")
    assert load_checkpoint("out.safetensors").config == made.config


def test_convert_records_the_kind_of_mel(here: Path, run: Run) -> None:
    saved(Path("unknown.safetensors"), replace(SMALL, mel_kind=None))
    assert run("convert", "unknown.safetensors", "-o", "out.safetensors", "--mel-kind", "hifigan")[0] == 0
    assert load_checkpoint("out.safetensors").config.mel_kind == "hifigan"


def test_convert_calibrates(here: Path, run: Run) -> None:
    config = replace(SMALL, residual_layers=6)
    saved(Path("six.safetensors"), config)
    np.save("speech.npy", np.random.default_rng(0).random((config.n_mels, 12), np.float32))
    mels = ("speech.npy", "speech.npy")
    status, out, err = run("convert", "six.safetensors", "-o", "out.safetensors", "--calibrate", *mels)
    assert (status, err) == (0, "")
    first = r"int8 agrees with fp32 by \d+\.\d dB \(eps\) and \d+\.\d dB \(audio\)"
    assert re.fullmatch(rf"{first}\nwrote out.safetensors\n", out)
    ranges = load_checkpoint("out.safetensors").config.int8_ranges
    assert ranges[:3] == (0.0, 0.0, 0.0) and min(ranges[3:]) > 0.0
    assert engine.load("out.safetensors", device="cpu", precision="int8").choice.precision == "int8"


def test_convert_refuses_what_it_cannot_calibrate(here: Path, run: Run) -> None:
    np.save("narrow.npy", np.zeros((SMALL.n_mels - 1, 12), np.float32))
    np.save("speech.npy", np.zeros((SMALL.n_mels, 12), np.float32))
    saved(Path("free.safetensors"), unconditional())
    for model, mel, message in (
        ("small.safetensors", "narrow.npy", "mel"),
        ("small.safetensors", "absent.npy", "absent.npy"),
        ("free.safetensors", "speech.npy", "calibrate: int8 is built for vocoders"),
        ("small.safetensors", "speech.npy", "got nothing: it has too few layers"),
    ):
        status, out, err = run("convert", model, "-o", "out.safetensors", "--calibrate", mel)
        assert status == 2 and out == "" and message in err and err.count("\n") == 1
        assert not Path("out.safetensors").exists()
