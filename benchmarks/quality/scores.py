"""Scores of audio by all judges, and bootstrap intervals of their means over clips."""

from __future__ import annotations

import importlib.metadata
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from engine.checks.arrays import FloatArray
from engine.training.quality import log_mel_error, perceptual_scores, predicted_mos

NEEDS = ("pesq", "pystoi", "scipy", "soundfile", "distillmos", "xls_r_sqa", "torch")
DISTRIBUTIONS = ("distillmos", "pesq", "pystoi", "scipy", "numpy", "torch")
RESAMPLES, LEVEL, SEED = 10_000, 0.95, 0


@dataclass(frozen=True)
class Scores:
    """The judgments of one clip; NaN where a judge has none.

    Attributes:
        pesq_wb: PESQ-WB against the recording, 1 to 4.6.
        stoi: STOI against the recording, 0 to 1.
        mos: MOS that DistillMOS predicts without the recording, 1 to 5.
        log_mel_error: mean absolute difference of the log-mels, natural logarithm.
    """

    pesq_wb: float = math.nan
    stoi: float = math.nan
    mos: float = math.nan
    log_mel_error: float = math.nan


@dataclass(frozen=True, eq=False)
class Judged:
    """One way to audio, judged on one clip.

    Attributes:
        scores: of all judges.
        snr_db: SNR in dB against the first setting with as many steps; NaN for others than voices.
    """

    scores: Scores
    snr_db: float = math.nan


Method = tuple[str, str]  # the mels and the name of a row


@dataclass(frozen=True)
class Interval:
    """A mean over clips and the ends of its bootstrap interval, which a single clip does not have."""

    mean: float
    low: float | None = None
    high: float | None = None


def judge(recording: FloatArray, audio: FloatArray, rate: int) -> Scores:
    """Return the scores of audio against a recording of the same length.

    Args:
        recording: [L].
        audio: [L].
        rate: of both, in Hz.
    """
    pesq_wb, stoi = perceptual_scores(recording, audio, rate)
    return Scores(pesq_wb, stoi, predicted_mos(audio, rate), log_mel_error(recording, audio, rate))


def interval(values: Sequence[float]) -> Interval | None:
    """Return the mean of the finite values and its 95 % interval, or None without any.

    Clips are drawn with replacement 10,000 times, with the seed SEED; the interval holds the middle 95 % of the means.
    It covers the choice of clips, and neither the seed of the network's noise nor the judge's own error.
    """
    from scipy.stats import bootstrap

    finite = np.asarray([value for value in values if math.isfinite(value)])
    if not len(finite):
        return None
    mean = float(finite.mean())
    if len(finite) == 1:
        return Interval(mean)
    random = np.random.default_rng(SEED)
    ends = bootstrap((finite,), np.mean, n_resamples=RESAMPLES, confidence_level=LEVEL, method="percentile", rng=random)
    return Interval(mean, float(ends.confidence_interval.low), float(ends.confidence_interval.high))


def means(scores: Sequence[Scores]) -> dict[str, Interval | None]:
    """Return the interval of every judge over clips."""
    return {field.name: interval([getattr(score, field.name) for score in scores]) for field in fields(Scores)}


def gain(scores: Sequence[Scores], baseline: Sequence[Scores]) -> Interval | None:
    """Return the interval of the differences in MOS from a baseline on the same clips.

    Clips differ more from one another than two methods do on one clip, so the interval of the differences is narrower
    than the intervals of the means suggest.
    """
    return interval([ours.mos - theirs.mos for ours, theirs in zip(scores, baseline, strict=True)])


def versions() -> dict[str, str]:
    """Return the versions of the judges and of the libraries that they compute with."""
    return {name: importlib.metadata.version(name) for name in DISTRIBUTIONS}
