"""The speed of a voice where it runs: how many streams it can serve at once."""

from __future__ import annotations

import time

import numpy as np

from engine.audio.metrics import RealTime
from engine.checks.arrays import FloatArray
from engine.config import Config
from engine.voice import Voice

FRAMES = 160
MIDDLE = {"lmnt": 0.5}  # a value in the middle of the kind's range
LOG_MIDDLE = -5.0


def measure(voice: Voice, steps: int | str, energy_min: float | None = None) -> RealTime:
    """Time one call that has all threads of a voice.

    Args:
        voice: a network that takes a mel.
        steps: of the call.
        energy_min: see `Voice.vocode`.
    """
    mel = _mel(voice.config)
    voice.vocode(mel[:, : FRAMES // 8], steps=steps, energy_min=energy_min)  # the first call prepares
    begin = time.perf_counter()
    audio = voice.vocode(mel, steps=steps, energy_min=energy_min)
    return RealTime(len(audio) / voice.sample_rate, time.perf_counter() - begin)


def _mel(config: Config) -> FloatArray:
    return np.full((config.n_mels, FRAMES), MIDDLE.get(config.mel_kind or "", LOG_MIDDLE), np.float32)
