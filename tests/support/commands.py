"""What the tests of the command line share: networks quick enough for it, and what it reports."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from engine.checkpoint.load import Checkpoint, save_checkpoint
from engine.config import Config
from tests.support.networks import random_network

SMALL = Config(residual_channels=16, residual_layers=3, dilation_cycle=2)
FRAMES = 12
MEL = np.random.default_rng(0).random((80, FRAMES)).astype(np.float32)
REPORT = r"[\d.e+-]+ s of audio in [\d.e+-]+ s: RTF [\d.e+-]+, [\d.e+-]+x real time"

Run = Callable[..., tuple[int, str, str]]


def saved(path: Path, config: Config) -> Path:
    save_checkpoint(path, Checkpoint(config, random_network(config, 1)))
    return path


def unconditional(config: Config = SMALL) -> Config:
    return replace(config, n_mels=0, upsample_strides=(), mel_kind=None)
