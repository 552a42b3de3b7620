"""Shared parts of the command-line tests: small networks, the pattern of the speed report, a stand-in GPU, errors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine.checkpoint.load import Checkpoint, save_checkpoint
from engine.cli.parsing import BAD_INPUT
from engine.config import Config
from engine.kernels import device as gpu_device
from engine.kernels.cuda import build as nvrtc
from tests.support.networks import random_network

SMALL = Config(residual_channels=16, residual_layers=3, dilation_cycle=2)
FRAMES = 12
MEL = np.random.default_rng(0).random((80, FRAMES)).astype(np.float32)
REPORT = r"[\d.e+-]+ s of audio in [\d.e+-]+ s: RTF [\d.e+-]+, [\d.e+-]+x real time"

Run = Callable[..., tuple[int, str, str]]


def save_network(path: Path, config: Config) -> Path:
    """Write a checkpoint with random weights and return its path."""
    save_checkpoint(path, Checkpoint(config, random_network(config, 1)))
    return path


def unconditional_config(config: Config = SMALL) -> Config:
    """Return the configuration of the same network without a mel."""
    return replace(config, n_mels=0, upsample_strides=(), mel_kind=None)


def replace_gpu(monkeypatch: pytest.MonkeyPatch, architectures: Sequence[str] = ("sm_80",)) -> None:
    """Let the machine have GPUs of these architectures, and NVRTC 1.2, of which nothing can be run."""
    monkeypatch.setattr(gpu_device, "obstacle", lambda index=0: None)
    monkeypatch.setattr(gpu_device, "describe", lambda index=0: "a GPU")
    monkeypatch.setattr(gpu_device, "isa", lambda index=0: architectures[index])
    monkeypatch.setattr(nvrtc, "obstacle", lambda: None)
    monkeypatch.setattr(nvrtc, "knows", lambda capability: True)
    monkeypatch.setattr(nvrtc, "version", lambda: "1.2")


def error_of(run: Run, *arguments: object, expected: int = BAD_INPUT) -> str:
    """Run a command that fails with a status and return its error, which is one line and leaves no file behind."""
    before = sorted(map(str, Path().rglob("*")))
    status, out, err = run(*arguments)
    assert status == expected and out == "" and sorted(map(str, Path().rglob("*"))) == before
    assert err.startswith("engine: error: ") and err.count("\n") == 1 and err.endswith("\n")
    return err.removeprefix("engine: error: ").removesuffix("\n")
