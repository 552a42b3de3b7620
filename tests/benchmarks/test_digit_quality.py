"""The quality measures of generated digits, on sets whose values are known."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.quality.digit_classifier import SAMPLES, fitted, judge, read_digits, train
from benchmarks.quality.digits import COPY, frechet, inception_score, resemblance, spread
from tests.support.networks import SHARED
from tests.support.paths import ROOT

CARD = ROOT / "engine" / "assets" / "DIGITS_CARD.md"


def test_frechet_distance_of_normal_distributions() -> None:
    random = np.random.default_rng(0)
    a = random.standard_normal((4000, 5)) * [1, 2, 3, 1, 1]
    assert frechet(a, a) == pytest.approx(0, abs=1e-9)
    assert frechet(a, a + 2) == pytest.approx(20)
    # Centered on the same axes: the sum of the squared differences of the standard deviations.
    b = random.standard_normal((4000, 5)) * [3, 2, 3, 1, 1]
    assert frechet(a, b) == pytest.approx(4, rel=0.1)
    assert frechet(a, b) == pytest.approx(frechet(b, a))


def test_inception_score_counts_clear_digits() -> None:
    assert inception_score(np.eye(10)) == pytest.approx(10)
    assert inception_score(np.eye(10)[[3, 3, 3]]) == pytest.approx(1)
    assert inception_score(np.full((5, 10), 0.1)) == pytest.approx(1)


def test_spread_is_within_a_digit() -> None:
    features = np.array([[0.0, 0], [3, 4], [100, 0], [100, 1]])
    assert spread(features, np.array([0, 0, 1, 1])) == pytest.approx((5 + 1) / 2)


def test_resemblance_ignores_shift_and_level() -> None:
    random = np.random.default_rng(0)
    known = random.standard_normal((300, 400)).astype(np.float32)
    copy = np.zeros((1, 400), np.float32)
    copy[0, 37:] = -0.0 + 0.3 * known[299, :-37]
    other = random.standard_normal((1, 400)).astype(np.float32)
    nearest = resemblance(np.concatenate([known[:1], copy, other]), known)
    assert nearest[0] == pytest.approx(1, abs=1e-5) and nearest[1] > COPY > 0.5 > nearest[2]


def test_clips_begin_where_the_sound_begins() -> None:
    sound = np.zeros(9000, np.float32)
    sound[1000:3000] = 0.2 * np.sin(np.arange(2000))
    clip = fitted(sound)
    assert clip.shape == (SAMPLES,) and abs(np.abs(clip).max() - 0.9) < 1e-3
    assert not clip[:75].any() and clip[80:2070].any() and not clip[2200:].any()
    assert not fitted(np.zeros(100, np.float32)).any()


def test_the_card_names_the_command() -> None:
    assert "python -m benchmarks.quality.digits" in CARD.read_text()


@pytest.mark.slow
def test_the_classifier_recognizes_real_digits() -> None:
    if not (SHARED / "data" / "fsdd").is_dir():
        pytest.skip("no shared recordings beside the project")
    train_clips, test_clips = read_digits(SHARED / "data" / "fsdd")
    probabilities, features = judge(train(train_clips), test_clips.audio)
    assert (probabilities.argmax(axis=1) == test_clips.digit).mean() > 0.97
    assert features.shape == (300, 64)
