"""Validation on held-out recordings: the loss of the average, and the scores of vocoded clips."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from engine.audio.wav import write_wav
from engine.config import Config
from engine.training import quality, validation
from engine.training.blur import blurred
from engine.training.data import Clip, Corpus, read_corpus
from engine.training.fit import Options, fit
from engine.training.processes import Processes
from engine.training.quality import log_mel_error, mos_installed, perceptual_scores
from engine.training.trainer import Trainer
from engine.training.validation import CLIPS, evenly_spaced, held_out_loss, validate
from tests.engine.training.recordings import digits_recipe, voice_recipe, write_digits, write_tones


def trainer_of(data: Path) -> Trainer:
    recipe = digits_recipe()
    return Trainer(recipe, read_corpus(data, recipe.data, recipe.network), Processes(0, 1, torch.device("cpu")))


def test_the_loss_depends_on_held_out_recordings_and_the_average(tmp_path: Path) -> None:
    trainer = trainer_of(write_digits(tmp_path))
    before = held_out_loss(trainer)
    assert before == held_out_loss(trainer) > 0.1
    with torch.no_grad():
        for parameter in trainer.parameters.values():
            parameter.add_(0.1)
    assert held_out_loss(trainer) == before
    trainer.average["output_projection.bias"] += 0.5
    assert held_out_loss(trainer) > before
    corpus = trainer.corpus
    trainer.corpus = Corpus(corpus.train, corpus.train[:1], corpus.classes, 0)
    loss_of_another_clip = held_out_loss(trainer)
    trainer.corpus = corpus
    assert loss_of_another_clip != held_out_loss(trainer)


def test_different_trainings_are_measured_with_the_same_examples(tmp_path: Path) -> None:
    trainer = trainer_of(write_digits(tmp_path))
    before = held_out_loss(trainer)
    training = replace(trainer.recipe.training, seed=7, batch=3, steps=2, rate=1e-3)
    trainer.recipe = replace(trainer.recipe, training=training)
    assert held_out_loss(trainer) == before


def test_without_held_out_recordings_there_are_no_figures(tmp_path: Path) -> None:
    trainer = trainer_of(write_digits(tmp_path))
    corpus = trainer.corpus
    trainer.corpus = Corpus(corpus.train, (), corpus.classes, 0)
    assert validate(trainer) == {}


def test_clips_are_evenly_spaced(tmp_path: Path) -> None:
    clips = trainer_of(write_digits(tmp_path)).corpus.train
    assert [clip.name for clip in evenly_spaced(clips, 3)] == [clips[i].name for i in (0, 4, 8)]
    assert evenly_spaced(clips, 100) == list(clips) and CLIPS > 1


def test_log_mel_error_grows_with_the_noise() -> None:
    random = np.random.default_rng(0)
    sound = np.sin(np.arange(22050) / 20).astype(np.float32) * 0.5
    noise = random.standard_normal(22050).astype(np.float32)
    errors = [log_mel_error(sound, sound + share * noise, 22050) for share in (0.0, 0.001, 0.1)]
    assert errors[0] == 0 < errors[1] < errors[2]
    assert log_mel_error(sound, sound * np.float32(np.e**-0.5), 22050) < 0.5


def test_a_voice_in_training_is_scored(tmp_path: Path) -> None:
    pytest.importorskip("pesq")
    pytest.importorskip("pystoi")
    data = write_tones(tmp_path / "data", 4, 22050, 1.0)
    figures = held_out(data, tmp_path / "folder")
    assert 0.9 < figures["held_out_pesq_wb"] < 4.7 and -1 < figures["held_out_stoi"] < 1
    assert figures["held_out_log_mel_error"] > 0 and figures["held_out_loss"] > 0
    assert 0.9 < figures["held_out_pesq_wb_blurred"] < 4.7 and figures["held_out_log_mel_error_blurred"] > 0
    assert ("held_out_mos" in figures) == ("held_out_mos_blurred" in figures) == mos_installed()
    assert "held_out_not_judged" not in figures
    # First one held-out clip is silent, then the other is also too short.
    write_wav(data / "0.wav", np.zeros(22050, np.float32), 22050)
    figures = held_out(data, tmp_path / "silent")
    assert 0.9 < figures["held_out_pesq_wb"] < 4.7 and figures["held_out_not_judged"] == 1
    write_wav(data / "1.wav", 0.1 * np.random.default_rng(0).standard_normal(5200).astype(np.float32), 22050)
    figures = held_out(data, tmp_path / "short")
    assert {name for name in figures if name.startswith("held_out_")} == {
        "held_out_loss",
        "held_out_log_mel_error",
        "held_out_log_mel_error_blurred",
        "held_out_not_judged",
        "held_out_not_judged_blurred",
    }
    assert figures["held_out_not_judged"] == 2


def held_out(data: Path, folder: Path) -> dict[str, Any]:
    """Return the last figures of a training that validates."""
    assert fit(voice_recipe(), data, Options(folder, validate_every=6))
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return {name: value for line in lines for name, value in line.items()}


def test_clips_with_too_little_speech_are_not_judged() -> None:
    pytest.importorskip("pesq")
    pytest.importorskip("pystoi")
    random = np.random.default_rng(0)
    noise, silence = 0.1 * random.standard_normal(22050).astype(np.float32), np.zeros(22050, np.float32)
    assert np.isfinite(perceptual_scores(noise, noise, 22050)).all()
    for recording, audio in ((silence, noise), (noise, silence), (noise[:5200], noise[:5200])):
        assert np.isnan(perceptual_scores(recording, audio, 22050)).all()
    assert list(np.isnan(perceptual_scores(noise[:7000], noise[:7000], 22050))) == [False, True]


@pytest.mark.parametrize(
    ("fast", "steps"),
    [(Config().fast_schedule, "fast"), ((0.001, 0.05, 0.5), "fast"), (None, "full")],
    ids=["6", "3", "none"],
)
def test_a_voice_is_scored_in_its_own_fast_schedule(
    monkeypatch: pytest.MonkeyPatch, fast: tuple[float, ...] | None, steps: str
) -> None:
    steps_used = []

    def vocode(mel: Any, steps: int | str, draft: str | None) -> Any:
        steps_used.append((steps, draft))
        return np.zeros(mel.shape[1] * 256, np.float32)

    monkeypatch.setattr(validation, "perceptual_scores", lambda recording, audio, rate: (1.0, 0.5))
    monkeypatch.setattr(validation, "mos_installed", lambda: False)
    voice: Any = SimpleNamespace(config=Config(fast_schedule=fast), sample_rate=22050, vocode=vocode)
    clip = Clip("a.wav", np.full(256 * 20 + 7, 0.1, np.float32), np.zeros((80, 20), np.float32), -1)
    figures = validation.vocoding_scores(voice, [clip])
    assert steps_used == [(steps, None)]
    assert (figures["pesq_wb"], figures["stoi"]) == (1.0, 0.5) and figures["log_mel_error"] > 0
    assert "mos" not in figures
    monkeypatch.setattr(validation, "mos_installed", lambda: True)
    monkeypatch.setattr(validation, "predicted_mos", lambda audio, rate: 3.25)
    assert validation.vocoding_scores(voice, [clip], 2, "griffin-lim")["mos"] == 3.25
    assert steps_used[-1] == (2, "griffin-lim")


def test_the_second_set_of_mels_is_blurred(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("scipy")
    recipe = voice_recipe()
    data = write_tones(tmp_path, 4, 22050, 0.3)
    trainer = Trainer(recipe, read_corpus(data, recipe.data, recipe.network), Processes(0, 1, torch.device("cpu")))
    mels: list[list[Any]] = []

    def scores(voice: Any, clips: Any) -> dict[str, float]:
        mels.append([clip.mel for clip in clips])
        return {"mos": float(len(mels))}

    monkeypatch.setattr(validation, "vocoding_scores", scores)
    figures = validate(trainer)
    assert (figures["mos"], figures["mos_blurred"]) == (1.0, 2.0)
    exact, inexact = mels
    assert [mel.shape for mel in exact] == [mel.shape for mel in inexact]
    for seed, (before, after) in enumerate(zip(exact, inexact, strict=True)):
        assert (after == blurred(before, seed)).all() and (after != before).any()


def test_a_training_without_a_predicted_mos_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in ("pesq", "pystoi", "scipy"):
        pytest.importorskip(module)
    data = write_tones(tmp_path / "data", 4, 22050, 0.3)
    monkeypatch.setattr(quality, "mos_installed", lambda: False)
    fit(voice_recipe(), data, Options(tmp_path / "folder", validate_every=100, stop_after=1))
    assert "validating without mos: DistillMOS is not installed; run pip install" in capsys.readouterr().err
    fit(voice_recipe(), data, Options(tmp_path / "other", validate_every=0, stop_after=1))
    assert "mos" not in capsys.readouterr().err
