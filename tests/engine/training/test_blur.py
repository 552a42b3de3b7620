"""Blurred mels: their formula, seeds, kinds and edges."""

from __future__ import annotations

import math

import numpy as np
import pytest

from engine.errors import InputError
from engine.training import blur
from engine.training.blur import blurred

pytest.importorskip("scipy")


def impulse(value: float = 1.0) -> np.ndarray:
    mel = np.zeros((31, 41), np.float32)
    mel[15, 20] = value
    return mel


def test_without_an_error_it_is_a_gaussian_blur(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blur, "ERROR_DB", 0.0)
    result = blurred(impulse())
    assert result.dtype == np.float32 and result.sum() == pytest.approx(1, abs=1e-5)
    # Along a line through the center, a sampled Gaussian of 0.7 bands and one of 1 frame.
    for line, deviation in ((result[13:18, 20], 0.7), (result[15, 18:23], 1.0)):
        expected = np.exp(-0.5 * (np.arange(-2, 3) / deviation) ** 2)
        assert line / line[2] == pytest.approx(expected, rel=1e-4)
    constant = np.full((80, 7), 0.3, np.float32)
    assert blurred(constant) == pytest.approx(constant)  # the edges too


def test_the_error_has_one_decibel_and_depends_on_the_seed() -> None:
    for kind, level, decibel in (("lmnt", 0.5, 0.01), ("tacotron", -5.0, math.log(10) / 20)):
        mel = np.full((80, 2000), level, np.float32)
        error = blurred(mel, 3, kind) - mel
        assert error[4:-4, 5:-5].std() == pytest.approx(decibel, rel=0.03)
        assert abs(error.mean()) < 0.05 * decibel
        # Smooth: neighbours are alike, by exp(-1 / (4 sigma^2)).
        for a, b, likeness in ((error[4:-5], error[5:-4], 0.60), (error[:, 5:-6], error[:, 6:-5], 0.78)):
            assert np.corrcoef(a.ravel(), b.ravel())[0, 1] == pytest.approx(likeness, abs=0.03)
        assert (blurred(mel, 3, kind) == blurred(mel, 3, kind)).all()
        other = blurred(mel, 4, kind) - mel
        assert abs(np.corrcoef(error.ravel(), other.ravel())[0, 1]) < 0.05


@pytest.mark.parametrize("strength", [0.1, 0.5, 1.5, 3.0])
def test_the_strength_scales_the_blur_and_the_error(strength: float, monkeypatch: pytest.MonkeyPatch) -> None:
    flat = np.full((80, 2000), 0.5, np.float32)
    assert (blurred(flat, 3, strength=strength) - 0.5)[:, 20:-20].std() == pytest.approx(0.01 * strength, rel=0.05)
    monkeypatch.setattr(blur, "ERROR_DB", 0.0)
    rows = blurred(impulse(), strength=strength).sum(axis=0)
    variance = float((rows * (np.arange(41) - 20) ** 2).sum())
    sampled = np.exp(-0.5 * (np.arange(-40, 41) / strength) ** 2)
    assert variance == pytest.approx((sampled * np.arange(-40, 41) ** 2).sum() / sampled.sum(), rel=0.01, abs=1e-6)


def test_a_longer_mel_begins_with_the_same_values() -> None:
    mel = np.linspace(0.2, 0.8, 80 * 60, dtype=np.float32).reshape(80, 60)
    assert (blurred(mel, 9)[:, :36] == blurred(mel[:, :40], 9)[:, :36]).all()


def test_values_stay_in_the_range_of_the_kind() -> None:
    for kind, low, high in (("lmnt", 0.0, 1.0), ("hifigan", math.log(1e-5), math.inf)):
        for edge in (low, high):
            if math.isfinite(edge):
                result = blurred(np.full((80, 50), edge, np.float32), 0, kind)
                assert low - 1e-6 <= result.min() and result.max() <= high and (result == np.float32(edge)).any()


def test_an_unknown_kind_is_refused() -> None:
    for kind in (None, "other"):
        with pytest.raises(InputError, match="mel_kind: expected one of lmnt, tacotron"):
            blurred(impulse(), 0, kind)
