"""A session of training on a GPU, in small: both trainings, their files, their limits."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import engine
from benchmarks.gpu import training_session
from benchmarks.gpu.training_session import Machine, Stage, run, stages
from engine.training import few_steps
from engine.training.export import export_weights
from engine.training.fit import STATE, Options, fit
from engine.training.pack import pack
from engine.training.settings import recipe_from_json
from engine.training.state import read_state
from engine.training.trainer import Trainer
from tests.engine.training.recordings import unrolled_recipe, voice_recipe, write_tones

CPU = Machine("cpu", "fp32", clips=1, max_steps=2)


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Stage]:
    """Return three small stages with their initial weights; the judge is fast."""
    monkeypatch.setattr(few_steps, "vocoding_scores", lambda voice, clips, *rest: {"clips": float(len(clips))})
    data = write_tones(tmp_path / "data", 5, 22050, 0.3)
    pack(voice_recipe(), data, tmp_path / "pack.safetensors", held_out=2)
    fit(voice_recipe(training={"steps": 1}), data, Options(tmp_path / "start"))
    export_weights(tmp_path / "start" / STATE, tmp_path / "init.safetensors")
    init = {"init": str(tmp_path / "init.safetensors")}
    tuned = unrolled_recipe(training=init, unroll={"steps": [3, 2]})
    drafts = unrolled_recipe(training=init, unroll={"steps": [2], "draft": "griffin-lim"})
    return [
        Stage("steps", tuned, 0.01, (2, 3)),
        Stage("voice", voice_recipe(training=init), 0.01, (6,)),
        Stage("drafts", drafts, 0.01, (2,), "griffin-lim"),
    ]


def test_a_session_brings_back_small_files(tmp_path: Path, session: list[Stage]) -> None:
    out = tmp_path / "out"
    result = run(session, tmp_path / "pack.safetensors", out, CPU)
    names = {
        f"{name}.{end}"
        for name in ("steps", "voice", "drafts")
        for end in ("weights.safetensors", "safetensors", "jsonl")
    }
    assert {path.name for path in out.iterdir()} == names | {"session.json"}
    assert json.loads((out / "session.json").read_text()) == result
    for stage in session:
        figures = result["stages"][stage.name]
        assert figures["finished"] and figures["steps"] == 2 and figures["clips"] == ["0.wav"]
        weights = read_state(out / f"{stage.name}.weights.safetensors")
        assert weights.step == 2 and not weights.tensors["average"]
        assert recipe_from_json(weights.recipe).unroll == stage.recipe.unroll
        assert (out / f"{stage.name}.jsonl").read_text().count("\n") == 1
    assert result["stages"]["steps"]["scores"] == {
        f"{n}_steps_clips{suffix}": 1.0 for n in (2, 3) for suffix in ("", "_blurred")
    }
    assert set(result["stages"]["drafts"]["scores"]) == {"2_steps_on_drafts_clips", "2_steps_on_drafts_clips_blurred"}
    tuned, voice, _ = (engine.load(out / f"{stage.name}.safetensors", device="cpu") for stage in session)
    assert sorted(map(len, tuned.config.schedules)) == [2, 3] and not voice.config.schedules


def test_the_steps_follow_from_the_time(tmp_path: Path, session: list[Stage], monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    advance = Trainer.advance

    def timed(trainer: Trainer) -> Any:
        clock[0] += 0.5
        return advance(trainer)

    monkeypatch.setattr(training_session.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(training_session, "WARM_UP", 1)
    monkeypatch.setattr(training_session, "TIMED", 2)
    monkeypatch.setattr(Trainer, "advance", timed)
    stage = replace(session[0], minutes=0.05)
    result = run([stage], tmp_path / "pack.safetensors", tmp_path / "out", replace(CPU, max_steps=None))
    figures = result["stages"]["steps"]
    assert figures["seconds_per_step_of_the_probe"] == 0.5 and figures["steps"] == 6 and figures["finished"]
    # A training that is slower than its probe stops, and brings back what it has.
    clock[0], late = 0.0, []

    def slower(trainer: Trainer) -> Any:
        clock[0] += 0.5 if len(late) < 3 else 2.5
        late.append(1)
        return advance(trainer)

    monkeypatch.setattr(Trainer, "advance", slower)
    result = run([stage], tmp_path / "pack.safetensors", tmp_path / "again", replace(CPU, max_steps=None))
    assert result["stages"]["steps"]["finished"] is False
    assert 0 < read_state(tmp_path / "again" / "steps.weights.safetensors").step < 6


def test_the_stages_of_the_bundled_voice_are_valid() -> None:
    draft, tuned, voice = trainings = stages(15.0, training_session.INIT)
    assert draft.recipe.unroll is not None and draft.recipe.unroll.steps == draft.judged == (2,)
    assert draft.draft == draft.recipe.unroll.draft == "griffin-lim" and draft.recipe.data.blur == 0.5
    assert tuned.recipe.unroll is not None and tuned.recipe.unroll.steps == (3, 2) and voice.recipe.unroll is None
    assert [stage.minutes for stage in trainings] == [6.0, 4.0, 5.0]
    for stage in trainings:
        assert (stage.recipe.training.batch, stage.recipe.data.frames) == (16, 32)
        assert Path(stage.recipe.training.init).is_file()
        assert set(stage.judged) <= {1, 2, 3, 4, 5, 6}


def test_a_large_file_is_refused(tmp_path: Path, session: list[Stage], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_session, "MAX_BYTES", 1000)
    with pytest.raises(SystemExit, match="expected at most 1000 bytes, got"):
        run(session, tmp_path / "pack.safetensors", tmp_path / "out", CPU)
