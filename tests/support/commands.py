"""Shared parts of the command-line tests: small networks, the pattern of the speed report, errors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from engine.checkpoint.load import Checkpoint, save_checkpoint
from engine.cli.parsing import BAD_INPUT
from engine.config import Config
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


def error_of(run: Run, *arguments: object, expected: int = BAD_INPUT) -> str:
    """Run a command that fails with a status and return its error, which is one line and leaves no file behind."""
    before = sorted(map(str, Path().rglob("*")))
    status, out, err = run(*arguments)
    assert status == expected and out == "" and sorted(map(str, Path().rglob("*"))) == before
    assert err.startswith("engine: error: ") and err.count("\n") == 1 and err.endswith("\n")
    return err.removeprefix("engine: error: ").removesuffix("\n")
