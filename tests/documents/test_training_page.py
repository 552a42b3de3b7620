"""docs/training.md: its commands, its recipes, and the way from recordings to a voice."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import engine
from engine.audio.wav import read_audio
from engine.training.__main__ import main, parser
from engine.training.settings import read_recipe
from tests.engine.training.recordings import write_tones
from tests.support.paths import ROOT, SHARED

PAGE = (ROOT / "docs" / "training.md").read_text()
COMMANDS = re.findall(r"^    (?:torchrun --nproc-per-node 2 -m|python -m) engine\.training (.*)$", PAGE, re.MULTILINE)
TABLES = re.findall(r"^```toml\n(.*?)^```", PAGE, flags=re.DOTALL | re.MULTILINE)
SMALL = "[network]\nresidual_channels = 16\nresidual_layers = 4\n\n[training]\nsteps = 20\nbatch = 4\n"


def run_training(folder: Path, *arguments: object) -> None:
    subprocess.run([sys.executable, "-m", "engine.training", *map(str, arguments)], cwd=folder, check=True)


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_are_valid(command: str) -> None:
    parser().parse_args(shlex.split(command))


def test_recipes_are_valid(tmp_path: Path) -> None:
    assert len(COMMANDS) >= 9 and len(TABLES) == 3
    recipes = []
    for number, text in enumerate(TABLES):
        (tmp_path / f"{number}.toml").write_text(text)
        recipes.append(read_recipe(tmp_path / f"{number}.toml"))
    voice, tuned, prior = recipes
    assert voice.training.steps == 50000 and prior.network.energy_min == 0.0816
    assert tuned.unroll is not None and tuned.unroll.steps == (3, 2) and voice.unroll is None


def test_from_recordings_to_a_voice(tmp_path: Path) -> None:
    write_tones(tmp_path / "recordings", 4, 22050, 0.5)
    (tmp_path / "small.toml").write_text(SMALL)
    run_training(tmp_path, "fit", "small.toml", "--data", "recordings", "--folder", "training", "--device", "cpu")
    assert main(["export", str(tmp_path / "training"), "-o", str(tmp_path / "my-voice.safetensors")]) == 0
    voice = engine.load(tmp_path / "my-voice.safetensors", device="cpu")
    audio = voice.vocode(np.full((80, 10), 0.5, np.float32))
    assert audio.shape == (2560,) and np.isfinite(audio).all()


@pytest.mark.slow
def test_twenty_clips_and_two_hundred_steps_make_a_voice(tmp_path: Path) -> None:
    clips = sorted((SHARED / "data" / "kerstin_22k").glob("*.flac"))[:20]
    if not clips:
        pytest.skip("no shared recordings beside the project")
    (tmp_path / "recordings").mkdir()
    for clip in clips:
        (tmp_path / "recordings" / clip.name).symlink_to(clip)
    (tmp_path / "recipe.toml").write_text(
        '[data]\npattern = "*.flac"\n\n[training]\nsteps = 200\nbatch = 5\nwarmup = 50\n'
    )
    run_training(tmp_path, "fit", "recipe.toml", "--data", "recordings", "--folder", "training")
    run_training(tmp_path, "export", "training", "-o", "my-voice.safetensors")
    voice = engine.load(tmp_path / "my-voice.safetensors")
    recording, rate = read_audio(clips[0])
    audio = voice.vocode(engine.mel(recording, rate, kind=voice.config.mel_kind))[: len(recording)]
    # Two hundred steps learn the noise, and hardly the mel.
    assert np.isfinite(audio).all() and 0.01 < audio.std() < 0.9
    lines = [json.loads(line) for line in (tmp_path / "training" / "log.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines]  # 0.285 in the first 50 steps, 0.158 in the last
    assert len(losses) == 4 and losses[-1] < 0.7 * losses[0]
