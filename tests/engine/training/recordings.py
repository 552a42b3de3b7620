"""Folders of short recordings to train on, and small recipes for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from engine.audio.wav import write_wav
from engine.training.settings import Recipe, recipe_from_tables

SMALL = {"residual_channels": 16, "residual_layers": 4, "dilation_cycle": 4}


def recipe_text(frames: int, steps: int, batch: int) -> str:
    """Return a TOML recipe of a voice with 16 channels; further keys of `training` may be appended."""
    return f"""
[network]
residual_channels = 16
residual_layers = 4
dilation_cycle = 4

[data]
frames = {frames}
held_out = '^0\\.'

[training]
steps = {steps}
batch = {batch}
warmup = 2
fast_share = 0.5
"""


def write_tones(folder: Path, count: int, rate: int, seconds: float, seed: int = 0) -> Path:
    """Write recordings n.wav of gliding tones with overtones, which a small network learns in seconds."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    time = np.arange(int(rate * seconds)) / rate
    for number in range(count):
        pitch = random.uniform(100, 300) * (1 + random.uniform(-0.4, 0.4) * time)
        phase = 2 * np.pi * np.cumsum(pitch) / rate
        sound = sum(np.sin(k * phase + random.uniform(0, 6)) / k for k in range(1, 8))
        write_wav(folder / f"{number}.wav", 0.25 * sound * random.uniform(0.5, 1), rate)
    return folder


def write_digits(folder: Path, digits: int = 3, speakers: str = "ab", takes: int = 3, rate: int = 8000) -> Path:
    """Write recordings DIGIT_SPEAKER_TAKE.wav: a tone for every digit and speaker."""
    folder.mkdir(parents=True, exist_ok=True)
    time = np.arange(int(0.02 * rate)) / rate
    for digit in range(digits):
        for number, speaker in enumerate(speakers):
            for take in range(takes):
                tone = np.sin(2 * np.pi * (200 + 300 * digit) * (1 + 0.1 * number) * time + take)
                write_wav(folder / f"{digit}_{speaker}_{take}.wav", 0.4 * tone, rate)
    return folder


def voice_recipe(**changes: Any) -> Recipe:
    """Return the recipe of a voice with 16 channels."""
    tables: dict[str, Any] = {
        "network": dict(SMALL),
        "data": {"frames": 4, "held_out": r"^[0-1]\."},
        "training": {"steps": 6, "batch": 4, "warmup": 2, "rate": 1e-3, "fast_share": 0.5},
    }
    for name, values in changes.items():
        tables[name].update(values)
    return recipe_from_tables(tables)


def unrolled_recipe(**changes: Any) -> Recipe:
    """Return the recipe of a voice with 16 channels that is tuned for three steps."""
    tables: dict[str, Any] = {
        "network": dict(SMALL),
        "data": {"frames": 4, "held_out": r"^[0-1]\."},
        "training": {"steps": 6, "batch": 4, "warmup": 2, "rate": 1e-3, "fast_share": 0.5},
        "unroll": {"windows": [128, 256, 512]},
    }
    for name, values in changes.items():
        tables[name].update(values)
    return recipe_from_tables(tables)


def digits_recipe(**changes: Any) -> Recipe:
    """Return the recipe of a digits network with 16 channels."""
    tables: dict[str, Any] = {
        "network": {**SMALL, "n_mels": 0, "sample_rate": 8000, "fast_schedule": []},
        "data": {"label": r"^(\d)_([a-z])_", "held_out": r"_0\.wav$", "samples": 200, "lead": 30, "peak": 0.9},
        "training": {"steps": 6, "batch": 4, "warmup": 2, "rate": 1e-3, "drop_label": 0.25, "loss": "l2"},
    }
    for name, values in changes.items():
        tables[name].update(values)
    return recipe_from_tables(tables)
