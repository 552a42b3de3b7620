"""Speed relative to real time, and the signal-to-noise ratio of two signals."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from engine.errors import InputError


@dataclass(frozen=True)
class RealTime:
    """The length of generated audio and the time that generating it took.

    Attributes:
        audio_seconds: length of the audio in seconds, finite, >= 0.
        work_seconds: wall time in seconds, finite, >= 0.
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
        """Speed relative to real time: audio / work, above 1 when faster; infinite when no time passed."""
        return self.audio_seconds / self.work_seconds if self.work_seconds else math.inf

    def __str__(self) -> str:
        """Return for example "3.21 s of audio in 0.67 s: RTF 0.21, 4.8x real time"; no ratio if a time is 0."""
        text = f"{_format(self.audio_seconds, 3)} s of audio in {_format(self.work_seconds, 2)} s"
        if self.audio_seconds and self.work_seconds:
            text += f": RTF {_format(self.rtf, 2)}, {_format(self.times, 2)}x real time"
        return text


def snr(signal: npt.ArrayLike, other: npt.ArrayLike) -> float:
    """Compute the signal-to-noise ratio ``10 log10(sum signal^2 / sum (signal - other)^2)`` in dB.

    The mean of each signal is subtracted first, because a constant offset is inaudible.

    Args:
        signal: the reference, of any shape.
        other: the signal to compare with it, of the same shape.

    Returns:
        The ratio in dB; infinity if both are equal.
    """
    reference, compared = (np.asarray(values, np.float64) for values in (signal, other))
    assert reference.shape == compared.shape, f"shape {compared.shape}, expected {reference.shape}"
    reference, compared = reference - reference.mean(), compared - compared.mean()
    with np.errstate(divide="ignore"):
        return float(10.0 * np.log10(np.sum(reference**2) / np.sum((reference - compared) ** 2)))


def _format(value: float, digits: int) -> str:
    """Round to significant digits; use an exponent below 0.0001 and from a million on."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    rounded = f"{value:.{digits - 1}e}"  # rounded first: 9.96 in two digits is 10, which has no decimals
    exponent = int(rounded.partition("e")[2])
    if not -4 <= exponent < 6:
        return rounded
    return f"{value:.{max(0, digits - 1 - exponent)}f}"
