"""Griffin-Lim and the match on tensors, as a GPU computes them, against the same on arrays."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import engine
from engine.audio import overlap
from engine.audio.griffin_lim import griffin_lim
from engine.audio.mel_match import MelMatch, matched
from engine.audio.spectrogram import KINDS
from engine.checks.arrays import FloatArray
from tests.support.tolerances import TOLERANCES, relative_error

pytestmark = pytest.mark.usefixtures("one_torch_thread")

RATE, BLOCK = 22050, 40
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _short_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overlap, "DEVICE_BLOCK", BLOCK)


def speech(frames: int, kind: str, seed: int) -> tuple[FloatArray, FloatArray]:
    """Return noise [256 T] whose level varies, and its mel."""
    random = np.random.default_rng(seed)
    level = np.repeat(random.uniform(0.001, 0.3, frames), 256)
    audio = (level * random.standard_normal(256 * frames)).clip(-1, 1).astype(np.float32)
    padded = np.pad(audio, (0, max(0, 1024 - len(audio))))
    return audio, engine.mel(padded, RATE, kind=kind)[:, :frames]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("frames", [1, 3, BLOCK, 2 * BLOCK + 5])
def test_griffin_lim(frames: int, kind: str) -> None:
    _, mel = speech(frames, kind, 1)
    expected = griffin_lim(mel, RATE, kind=kind, rounds=8, seed=5)
    audio = griffin_lim(mel, RATE, kind=kind, rounds=8, seed=5, threads=2, device=CPU)
    assert isinstance(audio, torch.Tensor) and audio.dtype == torch.float32
    assert relative_error(audio.numpy(), expected) < TOLERANCES["on_tensors"]


@pytest.mark.parametrize("gain", [1.0, 2.0, math.inf])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("frames", [1, 2, 3, BLOCK, 3 * BLOCK + 5])
def test_the_match(frames: int, kind: str, gain: float) -> None:
    (audio, _), (_, mel) = speech(frames, kind, 1), speech(frames, kind, 2)
    expected = matched(audio, mel, MelMatch(len(mel), RATE, kind=kind, largest_gain=gain))
    assert relative_error(expected, audio) > 0.01
    match = MelMatch(len(mel), RATE, kind=kind, largest_gain=gain, device=CPU)
    result = matched(torch.from_numpy(audio), mel, match)
    assert isinstance(result, torch.Tensor) and result.dtype == torch.float32
    assert relative_error(result.numpy(), expected) < TOLERANCES["on_tensors"]
