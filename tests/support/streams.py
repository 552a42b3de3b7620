"""Small voices and mels for the tests of streams."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import engine
from engine import Voice
from engine.checkpoint.load import Checkpoint, save_checkpoint
from engine.config import Config
from tests.support.networks import random_network

SMALL = Config(residual_channels=16, residual_layers=5, dilation_cycle=4, n_mels=20, upsample_strides=(4, 4))
CONFIGS = {
    "lmnt": SMALL,
    "reflect": replace(SMALL, padding="reflect", mel_kind=None),
    "reflect, hop 2": replace(SMALL, padding="reflect", mel_kind=None, upsample_strides=(2,)),
    "an upsampler for each layer": replace(SMALL, shared_upsampler=False, upsample_strides=(6, 2, 4)),
    "prior": replace(SMALL, prior=True, mel_kind="hifigan"),
    "hop 15": replace(SMALL, upsample_strides=(3, 5)),
    "hop 105, reflect": replace(SMALL, upsample_strides=(7, 3, 5), shared_upsampler=False, padding="reflect"),
    "20 channels": replace(SMALL, residual_channels=20),
    "8 steps": replace(SMALL, train_schedule=tuple(np.linspace(1e-4, 0.05, 8).tolist()), fast_schedule=None),
}
EXTRA: dict[str, dict[str, Any]] = {"prior": {"energy_min": 0.5}, "8 steps": {"steps": "full"}}

Array = npt.NDArray[np.float32]


def load(path: Path, config: Config, threads: int = 2) -> Voice:
    save_checkpoint(path, Checkpoint(config, random_network(config, 0)))
    return engine.load(path, device="cpu", threads=threads)


def a_mel(frames: int, seed: int = 0, config: Config = SMALL) -> Array:
    mel = np.random.default_rng((seed, frames)).random((config.n_mels, frames), np.float32)
    return mel * np.float32(3) - np.float32(2) if config.prior else mel


def cut(mel: Array, *sizes: int) -> Iterator[Array]:
    """Pieces of these sizes in turns."""
    begin = turn = 0
    while begin < mel.shape[1]:
        yield mel[:, begin : begin + sizes[turn % len(sizes)]].copy()
        begin, turn = begin + sizes[turn % len(sizes)], turn + 1
