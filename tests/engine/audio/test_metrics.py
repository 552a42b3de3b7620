"""Real-time factors, and their text."""

from __future__ import annotations

import math

import pytest

from engine.audio.metrics import RealTime
from engine.errors import InputError


@pytest.mark.parametrize(
    ("audio", "work", "text"),
    [
        (3.21, 0.67, "3.21 s of audio in 0.67 s: RTF 0.21, 4.8x real time"),
        (1.0, 10.0, "1.00 s of audio in 10 s: RTF 10, 0.10x real time"),
        (9.996, 9.96, "10.0 s of audio in 10 s: RTF 1.0, 1.0x real time"),
        (3600, 12, "3600 s of audio in 12 s: RTF 0.0033, 300x real time"),
        (1e9, 1e-9, "1.00e+09 s of audio in 1.0e-09 s: RTF 1.0e-18, 1.0e+18x real time"),
        (1e300, 1e-300, "1.00e+300 s of audio in 1.0e-300 s: RTF 0, infx real time"),
        (0, 0.67, "0 s of audio in 0.67 s"),
        (3.21, 0.0, "3.21 s of audio in 0 s"),
        (0.0, 0.0, "0 s of audio in 0 s"),
    ],
)
def test_text(audio: float, work: float, text: str) -> None:
    assert str(RealTime(audio, work)) == text


def test_ratios() -> None:
    real_time = RealTime(audio_seconds=4.0, work_seconds=0.5)
    assert real_time.rtf == 0.125 and real_time.times == 8.0
    assert RealTime(0, 1).rtf == math.inf and RealTime(0, 1).times == 0
    assert RealTime(1, 0).rtf == 0 and RealTime(1, 0).times == math.inf


@pytest.mark.parametrize("bad", [-1.0, math.nan, math.inf, -math.inf])
def test_impossible_times(bad: float) -> None:
    with pytest.raises(InputError, match="audio_seconds: expected a finite number of seconds >= 0, got"):
        RealTime(bad, 1.0)
    with pytest.raises(InputError, match="work_seconds"):
        RealTime(1.0, bad)
