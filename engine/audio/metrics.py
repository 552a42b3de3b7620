"""How fast a run was, in words, and how near two signals are."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from engine.errors import InputError


@dataclass(frozen=True)
class RealTime:
    """The audio that was made and the time it took, both in seconds.

    Attributes:
        audio_seconds: length of the audio, finite, >= 0.
        work_seconds: wall time, finite, >= 0.
    """

    audio_seconds: float
    work_seconds: float

    def __post_init__(self) -> None:
        for name in ("audio_seconds", "work_seconds"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise InputError(f"{name}: expected a finite number of seconds >= 0, got {value!r}")

    @property
    def rtf(self) -> float:
        """Real-time factor: work / audio, below 1 when faster than real time; infinite without audio."""
        return self.work_seconds / self.audio_seconds if self.audio_seconds else math.inf

    @property
    def times(self) -> float:
        """Times real time: audio / work, above 1 when faster than real time; infinite when no time passed."""
        return self.audio_seconds / self.work_seconds if self.work_seconds else math.inf

    def __str__(self) -> str:
        """For example "3.21 s of audio in 0.67 s: RTF 0.21, 4.8x real time"; no ratio when a side is 0."""
        text = f"{_digits(self.audio_seconds, 3)} s of audio in {_digits(self.work_seconds, 2)} s"
        if self.audio_seconds and self.work_seconds:
            text += f": RTF {_digits(self.rtf, 2)}, {_digits(self.times, 2)}x real time"
        return text


def snr(signal: npt.ArrayLike, other: npt.ArrayLike) -> float:
    """``10 log10(sum signal^2 / sum (signal - other)^2)`` in dB, both without their mean, which nobody hears.

    Infinite where both are the same.
    """
    wanted, got = (np.asarray(values, np.float64) for values in (signal, other))
    assert wanted.shape == got.shape, f"shape {got.shape}, expected {wanted.shape}"
    wanted, got = wanted - wanted.mean(), got - got.mean()
    with np.errstate(divide="ignore"):
        return float(10.0 * np.log10(np.sum(wanted**2) / np.sum((wanted - got) ** 2)))


def _digits(value: float, count: int) -> str:
    """Value to count significant digits, plain from 0.0001 to a million and with an exponent beyond."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    rounded = f"{value:.{count - 1}e}"  # rounded first: 9.96 has as many decimals as 10
    exponent = int(rounded.partition("e")[2])
    if not -4 <= exponent < 6:
        return rounded
    return f"{value:.{max(0, count - 1 - exponent)}f}"
