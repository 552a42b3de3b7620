"""The judges of audio: the predicted MOS, and messages where a judge is not installed."""

from __future__ import annotations

import importlib
import importlib.util
import math
import sys
from typing import Any

import numpy as np
import pytest

from engine.audio.wav import read_audio, resample
from engine.checks.arrays import FloatArray
from engine.errors import InputError, UnavailableError
from engine.training import quality
from engine.training.quality import check_installed, mos_installed, predicted_mos
from tests.support.paths import ROOT

RATE = 22050

needs_mos = pytest.mark.skipif(not mos_installed(), reason="DistillMOS is not installed (extra `quality`)")


def speech() -> FloatArray:
    """Return two seconds of speech at 22.05 kHz."""
    pytest.importorskip("soundfile")
    audio, rate = read_audio(ROOT / "docs" / "samples" / "voice-full-steps.flac")
    assert rate == RATE
    return audio[RATE // 2 : RATE * 5 // 2]


@needs_mos
def test_speech_is_better_than_noise() -> None:
    clean = speech()
    noise = clean.std() * np.random.default_rng(0).standard_normal(len(clean)).astype(np.float32)
    scores = [predicted_mos(clean + np.float32(level) * noise, RATE) for level in (0.0, 0.3, 1.0)]
    assert all(1.0 <= score <= 5.0 for score in scores)
    assert scores == sorted(scores, reverse=True) and scores[0] - scores[-1] > 0.6
    # White noise alone is nothing that DistillMOS was trained to judge: it gets more than speech buried in it.
    assert scores[-1] < predicted_mos(noise, RATE) < scores[0] - 0.4


@needs_mos
def test_the_prediction_ignores_level_and_rate_and_repeats() -> None:
    clean = speech()
    score = predicted_mos(clean, RATE)
    assert predicted_mos(clean, RATE) == score
    assert predicted_mos(np.float32(0.25) * clean, RATE) == pytest.approx(score, abs=1e-3)
    # The filters of two resamplers differ most where the judge hears the brightest sounds, just below 8 kHz.
    assert predicted_mos(resample(clean, RATE, 16000), 16000) == pytest.approx(score, abs=0.5)
    assert predicted_mos(clean, RATE * 2) != pytest.approx(score, abs=0.5)  # the rate matters
    assert math.isnan(predicted_mos(np.zeros(16000, np.float32), 16000))


@needs_mos
def test_torchaudio_is_not_imported(capfd: pytest.CaptureFixture[str]) -> None:
    already = "torchaudio" in sys.modules
    quality._mos_network.cache_clear()
    sys.modules.pop("distillmos.sqa", None)
    sys.modules.pop("distillmos", None)
    predicted_mos(np.ones(8000, np.float32), 16000)
    assert ("torchaudio" in sys.modules) == already
    assert capfd.readouterr().out == ""  # the package's own loading prints a line


def test_a_module_is_imported_when_it_is_used(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "large_module.py").write_text("VALUE = 7\nprint('imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    with quality._imported_when_used("large_module"):
        module = importlib.import_module("large_module")
    assert "large_module" not in sys.modules
    assert module.VALUE == 7 and sys.modules["large_module"] is not module
    with quality._imported_when_used("large_module"):
        assert importlib.import_module("large_module") is sys.modules["large_module"] is not module
    monkeypatch.delitem(sys.modules, "large_module")
    with quality._imported_when_used("no_such_module"):
        missing = importlib.import_module("no_such_module")
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        missing.load  # noqa: B018


def hide(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Let these modules look as if they were not installed, and all others as if they were."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in names else object())


@pytest.mark.parametrize("name", ["distillmos", "xls_r_sqa"])
def test_a_missing_judge_names_the_extra(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    hide(monkeypatch, name)
    with pytest.raises(UnavailableError, match=r"mos: DistillMOS is not installed; run pip install .*\[quality\]"):
        predicted_mos(np.ones(16000, np.float32), 16000)


def test_a_training_goes_on_without_a_predicted_mos_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch)
    assert check_installed() is None
    hide(monkeypatch, "distillmos")
    assert "DistillMOS is not installed" in str(check_installed())
    hide(monkeypatch, "distillmos", "pesq")
    with pytest.raises(InputError, match="validate_every: pesq is not installed"):
        check_installed()
