"""The quality measures of generated digits, on sets whose values are known."""

from __future__ import annotations

import numpy as np
import pytest

import engine
from benchmarks.committed import load
from benchmarks.figures.quality import accuracy, disagreements
from benchmarks.figures.quality import digits as table
from benchmarks.quality.digit_classifier import RATE, SAMPLES, Clips, fitted, judge, read_digits, train
from benchmarks.quality.digit_svm import features, train_machine
from benchmarks.quality.digits import COPY, frechet, inception_score, resemblance, spread, verdicts
from engine.checks.arrays import FloatArray
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


def spoken(count: int, seed: int, noise: float = 0.0) -> Clips:
    """Return clips of ten kinds: two tones, the second of which glides, at random pitch, level and speed."""
    random = np.random.default_rng(seed)
    audio = np.zeros((10 * count, SAMPLES), np.float32)
    digits = np.arange(10).repeat(count)
    for clip, digit in zip(audio, digits, strict=True):
        time = np.arange(int(random.integers(2500, 4500))) / RATE
        low = (300 + 60 * (digit % 5)) * random.uniform(0.98, 1.02)
        high = (1200 + 250 * (digit // 5)) * (1 + (digit % 2) * time)
        sound = np.sin(2 * np.pi * low * time) + np.sin(2 * np.pi * high * time)
        clip[: len(time)] = random.uniform(0.1, 0.4) * sound
        clip += noise * random.standard_normal(SAMPLES).astype(np.float32)
    return Clips(audio, digits, tuple(map(str, digits)))


def test_the_machine_learns_sounds_and_not_their_level() -> None:
    pytest.importorskip("sklearn")
    machine = train_machine(spoken(12, 0, 0.001))
    others = spoken(5, 1, 0.001)
    assert (machine.hear(others.audio) == others.digit).mean() > 0.95
    assert (machine.hear(0.3 * others.audio) == machine.hear(others.audio)).mean() > 0.95
    noise = 0.1 * np.random.default_rng(0).standard_normal((50, SAMPLES)).astype(np.float32)
    assert (machine.hear(noise) == others.digit).mean() < 0.4
    assert (train_machine(spoken(12, 0, 0.001)).hear(noise) == machine.hear(noise)).all()


def test_features_of_the_machine() -> None:
    sound = spoken(1, 2).audio
    rows = features(sound)
    assert rows.shape == (10, 14 * 40) and np.isfinite(rows).all()
    # Half the level is 0.69 in every log-mel, but for those at the floor, of which pure tones have many.
    assert np.abs(features(np.float32(0.5) * sound) - rows)[:, : 12 * 40].mean() < 0.4
    # A clip's duration is divided into parts: a slower clip has nearly the same features.
    steady: FloatArray = np.zeros((3, SAMPLES), np.float32)
    for clip, count, tones in zip(steady, (2400, 4800, 4800), ((0.2, 1.4), (0.2, 1.4), (1.4, 0.2)), strict=True):
        time, first = np.arange(count), np.arange(count) < count / 2
        clip[:count] = np.where(first, np.sin(time * tones[0]), np.sin(time * tones[1]))
    likeness = np.corrcoef(features(steady))
    assert likeness[0, 1] > 0.9 and likeness[1, 2] < 0.6, likeness
    assert features(np.zeros((1, SAMPLES), np.float32)).shape == (1, 14 * 40)


def test_the_worse_of_two_judges_counts() -> None:
    labels = np.array([0, 0, 1, 1, 2])
    network, machine = np.array([0, 0, 1, 1, 2]), np.array([0, 3, 3, 1, 5])
    row = verdicts(network, machine, labels)
    assert (row["accuracy"], row["accuracy_svm"], row["accuracy_worse"]) == (1.0, 0.4, 0.4)
    assert verdicts(machine, network, labels)["accuracy_worse"] == 0.4
    assert row["agreement"] == 0.4
    assert [tuple(case.values()) for case in row["disagreements"]] == [(0, 0, 3, 1), (1, 1, 3, 1), (2, 2, 5, 1)]
    both_wrong = verdicts(np.array([5, 5]), np.array([5, 6]), np.array([4, 6]))
    assert [tuple(case.values()) for case in both_wrong["disagreements"]] == [(6, 5, 6, 1)]
    assert (both_wrong["accuracy"], both_wrong["accuracy_svm"], both_wrong["agreement"]) == (0.0, 0.5, 0.5)
    twice = verdicts(np.array([4, 4, 7]), np.array([6, 6, 9]), None)
    assert twice["accuracy"] is twice["accuracy_svm"] is twice["accuracy_worse"] is None
    assert [tuple(case.values()) for case in twice["disagreements"]] == [(None, 4, 6, 2), (None, 7, 9, 1)]


def test_tables_show_both_judges() -> None:
    network, machine = np.array([0, 0, 1, 1, 2]), np.array([0, 3, 3, 1, 5])
    labels = np.array([0, 0, 1, 1, 2])
    before = load("digits")["rows"][1]
    rows = [
        {**before, **verdicts(network, machine, labels), "name": "asked"},
        {**before, **verdicts(network, machine, None), "name": "unasked"},
    ]
    head, _, first, second = table(rows).splitlines()
    assert "| accuracy: network | support vector machine | the worse | judges agree |" in head
    assert first.startswith(f"| asked | {before['clips']} | 100.0 % | 40.0 % | 40.0 % | 40.0 % |")
    assert second.startswith(f"| unasked | {before['clips']} |  |  |  | 40.0 % |")
    assert disagreements(rows).splitlines()[2:] == [
        "| asked | 0 | 0 | 3 | 1 |",
        "| asked | 1 | 1 | 3 | 1 |",
        "| asked | 2 | 2 | 5 | 1 |",
    ]


def test_committed_results_have_both_judges() -> None:
    rows = load("digits")["rows"]
    labelled = [row["name"].startswith(("real", "digits, ")) for row in rows]
    assert [row["accuracy"] is not None for row in rows] == labelled and rows[1]["clips"] >= 40
    for row in rows:
        assert sum(case["clips"] for case in row["disagreements"]) == round((1 - row["agreement"]) * row["clips"])
    assert rows[0]["accuracy_worse"] >= 0.97  # real recordings
    assert engine.load("digits").config.temperature == 0.9  # of which the pages state the figures
    for temperature in (1.0, 0.9):
        both = [float(accuracy(judge, temperature)) for judge in ("accuracy", "accuracy_svm")]
        assert float(accuracy("accuracy_worse", temperature)) == min(both)


def test_the_card_names_the_command() -> None:
    assert "python -m benchmarks.quality.digits" in CARD.read_text()


@pytest.mark.slow
def test_the_classifier_recognizes_real_digits() -> None:
    if not (SHARED / "data" / "fsdd").is_dir():
        pytest.skip("no shared recordings beside the project")
    train_clips, test_clips = read_digits(SHARED / "data" / "fsdd")
    probabilities, embedded = judge(train(train_clips), test_clips.audio)
    assert (probabilities.argmax(axis=1) == test_clips.digit).mean() > 0.97
    assert embedded.shape == (300, 64)


def test_the_machine_recognizes_real_digits() -> None:
    pytest.importorskip("sklearn")
    if not (SHARED / "data" / "fsdd").is_dir():
        pytest.skip("no shared recordings beside the project")
    train_clips, test_clips = read_digits(SHARED / "data" / "fsdd")
    assert (train_machine(train_clips).hear(test_clips.audio) == test_clips.digit).mean() >= 0.97
