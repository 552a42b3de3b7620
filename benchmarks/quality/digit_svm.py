"""A second judge of spoken digits, of another kind than the network: a support vector machine on log-mels.

A generator can please one judge. This one shares nothing with the network of digit_classifier.py but the recordings: it
sees a clip as one vector, in which the time is divided into parts of equal length, and draws boundaries between
vectors instead of learning filters.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.quality.digit_classifier import HOP, WINDOW, Clips, mel_filters
from engine.checks.arrays import FloatArray

PARTS = 12  # of a clip's duration
FLOOR = 1e-3
C, GAMMA = 10.0, "scale"
SILENCE = 0.02  # of the largest magnitude, at which a clip ends
SEED = 0

Labels = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class DigitMachine:
    """A scaler of features and a support vector machine.

    Attributes:
        model: a pipeline of scikit-learn.
    """

    model: Any

    def hear(self, audio: FloatArray) -> Labels:
        """Return the digits [n] of clips [n,SAMPLES]."""
        digits: Labels = self.model.predict(features(audio)).astype(np.int64)
        return digits


def train_machine(clips: Clips) -> DigitMachine:
    """Train the machine on recordings; it is the same one each time."""
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    model = make_pipeline(StandardScaler(), SVC(C=C, gamma=GAMMA, random_state=SEED))
    return DigitMachine(model.fit(features(clips.audio), clips.digit))


def features(audio: FloatArray) -> npt.NDArray[np.float64]:
    """Return the features [n, (PARTS + 2) * 40] of clips [n,SAMPLES].

    A clip ends with its last loud sample. The log-mels of its frames, 40 bands every 10 ms, are averaged over each of
    PARTS equal parts of its duration, and the mean over all bands and parts is subtracted, so that the level does not
    count. The mean and the standard deviation of every band over time follow.
    """
    filters = mel_filters().astype(np.float64)
    window = np.hanning(WINDOW + 1)[:-1]
    rows = []
    for clip in audio:
        loud = np.flatnonzero(np.abs(clip) > SILENCE * np.abs(clip).max())
        sound = clip[: max(int(loud[-1]) + 1 if len(loud) else 0, WINDOW + PARTS * HOP)]
        frames = np.lib.stride_tricks.sliding_window_view(sound.astype(np.float64), WINDOW)[::HOP]
        mel = np.log(np.maximum(filters @ np.abs(np.fft.rfft(frames * window)).T, FLOOR))
        mel -= mel.mean()
        ends = [math.floor(i * mel.shape[1] / PARTS) for i in range(PARTS + 1)]
        parts = [mel[:, a : max(b, a + 1)].mean(axis=1) for a, b in pairwise(ends)]
        rows.append(np.concatenate([*parts, mel.mean(axis=1), mel.std(axis=1)]))
    return np.stack(rows)
