"""The figures of a training: those of recordings that it does not hear."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from recordings import digits_recipe, spoken, tones, voice_recipe

from engine.training.data import Corpus, read_corpus
from engine.training.fit import Options, fit
from engine.training.processes import Processes
from engine.training.quality import log_mel_error
from engine.training.trainer import Trainer
from engine.training.validation import CLIPS, chosen, held_out_loss, validate


def trainer_of(data: Path) -> Trainer:
    recipe = digits_recipe()
    return Trainer(recipe, read_corpus(data, recipe.data, recipe.network), Processes(0, 1, torch.device("cpu")))


def test_loss_is_that_of_held_out_recordings_and_of_the_average(tmp_path: Path) -> None:
    trainer = trainer_of(spoken(tmp_path))
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
    other = held_out_loss(trainer)
    trainer.corpus = corpus
    assert other != held_out_loss(trainer)


def test_trainings_that_differ_are_measured_with_the_same_examples(tmp_path: Path) -> None:
    trainer = trainer_of(spoken(tmp_path))
    before = held_out_loss(trainer)
    training = replace(trainer.recipe.training, seed=7, batch=3, steps=2, rate=1e-3)
    trainer.recipe = replace(trainer.recipe, training=training)
    assert held_out_loss(trainer) == before


def test_without_held_out_recordings_there_is_nothing_to_say(tmp_path: Path) -> None:
    trainer = trainer_of(spoken(tmp_path))
    corpus = trainer.corpus
    trainer.corpus = Corpus(corpus.train, (), corpus.classes, 0)
    assert validate(trainer) == {}


def test_clips_are_spread_evenly(tmp_path: Path) -> None:
    clips = trainer_of(spoken(tmp_path)).corpus.train
    assert [clip.name for clip in chosen(clips, 3)] == [clips[i].name for i in (0, 4, 8)]
    assert chosen(clips, 100) == list(clips) and CLIPS > 1


def test_log_mel_error_grows_with_the_distance() -> None:
    random = np.random.default_rng(0)
    sound = np.sin(np.arange(22050) / 20).astype(np.float32) * 0.5
    noise = random.standard_normal(22050).astype(np.float32)
    errors = [log_mel_error(sound, sound + share * noise, 22050) for share in (0.0, 0.001, 0.1)]
    assert errors[0] == 0 < errors[1] < errors[2]
    assert log_mel_error(sound, sound * np.float32(np.e**-0.5), 22050) < 0.5


def test_a_voice_in_training_says_how_it_sounds(tmp_path: Path) -> None:
    pytest.importorskip("pesq")
    pytest.importorskip("pystoi")
    data = tones(tmp_path / "data", 4, 22050, 1.0)
    fit(voice_recipe(), data, Options(tmp_path / "folder", validate_every=6))
    lines = [json.loads(line) for line in (tmp_path / "folder" / "log.jsonl").read_text().splitlines()]
    figures = {name: value for line in lines for name, value in line.items()}
    assert 0.9 < figures["held_out_pesq_wb"] < 4.7 and -1 < figures["held_out_stoi"] < 1
    assert figures["held_out_log_mel_error"] > 0 and figures["held_out_loss"] > 0
