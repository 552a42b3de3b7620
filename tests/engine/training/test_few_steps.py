"""A voice judged in the numbers of steps that it is tuned for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engine.diffusion.schedule import build_schedule
from engine.training import few_steps
from engine.training import fit as fit_module
from engine.training.data import read_corpus
from engine.training.export import checkpoint_from_state
from engine.training.few_steps import few_step_scores, scores_by_steps
from engine.training.fit import Options, fit
from engine.training.processes import Processes
from engine.training.trainer import Trainer
from tests.engine.training.recordings import unrolled_recipe, voice_recipe, write_tones


def test_the_scores_are_those_of_the_tuned_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = unrolled_recipe(unroll={"steps": [3, 1]})
    corpus = read_corpus(write_tones(tmp_path, 4, 22050, 0.3), recipe.data, recipe.network)
    calls = []

    def scores(voice: Any, clips: Any, steps: int, draft: Any) -> dict[str, float]:
        (clip,) = clips
        exact = [np.array_equal(clip.mel, other.mel) for other in corpus.held_out]
        calls.append((clip.name, steps, any(exact)))
        tuned = build_schedule(recipe.network, steps).beta[::-1]
        assert draft is None and tuned in voice.config.schedules
        return {"mos": float(len(calls))} if len(calls) != 1 else {"log_mel_error": 9.0, "not_judged": 1}

    monkeypatch.setattr(few_steps, "vocoding_scores", scores)
    figures = few_step_scores(Trainer(recipe, corpus, Processes(0, 1, torch.device("cpu"))))
    assert calls == [(name, n, exact) for name in ("0.wav", "1.wav") for n in (1, 3) for exact in (True, False)]
    assert figures == {
        "1_steps_log_mel_error": 9.0,
        "1_steps_not_judged": 1,
        "1_steps_mos": 5.0,
        "1_steps_mos_blurred": 4.0,
        "3_steps_mos": 5.0,
        "3_steps_mos_blurred": 6.0,
    }
    plain = voice_recipe()
    assert few_step_scores(Trainer(plain, corpus, Processes(0, 1, torch.device("cpu")))) == {}


def test_the_scores_of_a_recipe_for_drafts_are_those_of_drafts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = unrolled_recipe(unroll={"steps": [2], "draft": "griffin-lim"})
    corpus = read_corpus(write_tones(tmp_path, 4, 22050, 0.3), recipe.data, recipe.network)
    monkeypatch.setattr(few_steps, "vocoding_scores", lambda voice, clips, steps, draft: {f"{steps} {draft}": 1.0})
    figures = few_step_scores(Trainer(recipe, corpus, Processes(0, 1, torch.device("cpu"))))
    assert figures == {f"2_steps_on_drafts_2 griffin-lim{suffix}": 1.0 for suffix in ("", "_blurred")}


def test_a_validation_logs_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(few_steps, "vocoding_scores", lambda *arguments: {"stoi": 0.5})
    monkeypatch.setattr(fit_module, "validate", lambda trainer: {"loss": 0.25})
    monkeypatch.setattr(fit_module, "check_installed", lambda: None)
    data = write_tones(tmp_path / "data", 4, 22050, 0.3)
    assert fit(unrolled_recipe(training={"steps": 1}), data, Options(tmp_path / "folder", validate_every=1))
    lines = [json.loads(line) for line in (tmp_path / "folder" / "log.jsonl").read_text().splitlines()]
    assert lines[0]["spectral"] > 0.0
    expected = {"held_out_loss": 0.25, "held_out_3_steps_stoi": 0.5, "held_out_3_steps_stoi_blurred": 0.5}
    assert lines[1] == {"step": 1, **expected}


def test_a_training_stops_after_its_time(tmp_path: Path) -> None:
    data = write_tones(tmp_path / "data", 4, 22050, 0.3)
    assert not fit(voice_recipe(), data, Options(tmp_path / "folder", seconds=0.0))
    assert fit(voice_recipe(), data, Options(tmp_path / "folder", seconds=1e6))


def test_another_process_gives_the_same_scores(tmp_path: Path) -> None:
    pytest.importorskip("pesq")
    pytest.importorskip("pystoi")
    recipe = voice_recipe()
    corpus = read_corpus(write_tones(tmp_path, 4, 22050, 0.5), recipe.data, recipe.network)
    trainer = Trainer(recipe, corpus, Processes(0, 1, torch.device("cpu")))
    checkpoint = checkpoint_from_state(recipe, trainer.state())
    alone, shared = (scores_by_steps(checkpoint, [1], corpus.held_out, workers) for workers in (0, 1))
    assert alone == shared and {"1_steps_log_mel_error", "1_steps_log_mel_error_blurred"} <= set(alone)
