"""engine generate, denoise and interpolate."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import engine
from engine import api, bundled
from engine.audio.wav import read_wav, write_wav
from engine.cli import generation as cli_generation
from tests.support.commands import REPORT, SMALL, Run, saved, unconditional

PLAIN = replace(unconditional(), sample_rate=8000, clip_samples=160)
LABELLED = replace(PLAIN, classes=("7", "3 ann", "3 ben", "a/b .."))
STEP = 1.01 / 32768


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory but for networks and recordings."""
    for name, config in (("labelled", LABELLED), ("plain", PLAIN), ("voice", SMALL)):
        saved(tmp_path / f"{name}.safetensors", config)
    for name, pitch in (("a", 9.0), ("b", 5.0)):
        write_wav(tmp_path / f"{name}.wav", np.sin(np.arange(160) / pitch) * 0.3, PLAIN.sample_rate)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(run: Run, *arguments: object) -> str:
    """The one line of an error that leaves no file behind."""
    before = sorted(map(str, Path().rglob("*")))
    status, out, err = run(*arguments)
    assert status == 2 and out == "" and sorted(map(str, Path().rglob("*"))) == before
    assert err.startswith("engine: error: ") and err.count("\n") == 1
    return err[len("engine: error: ") : -1]


def heard(path: Path | str, expected: Any) -> None:
    audio, rate = read_wav(path)
    assert rate == PLAIN.sample_rate
    np.testing.assert_allclose(audio, expected, atol=STEP)


def test_clips_of_a_label_in_a_new_folder(here: Path, run: Run) -> None:
    status, out, err = run(
        "generate", "--label", 7, "-n", 3, "-o", "out", "--model", "labelled.safetensors", "--seed", 5
    )
    assert (status, err) == (0, "")
    assert re.fullmatch(f"wrote 3 clips: out/7-00.wav to 7-02.wav\n{REPORT}\n", out)
    assert sorted(os.listdir("out")) == ["7-00.wav", "7-01.wav", "7-02.wav"]
    for number, expected in enumerate(engine.load("labelled.safetensors").generate(3, 7, seed=5)):
        heard(f"out/7-0{number}.wav", expected)


def test_names_say_which_class_was_drawn(here: Path, run: Run) -> None:
    voice, options = engine.load("labelled.safetensors"), ["--model", "labelled.safetensors", "--steps", 6]
    assert run("generate", "-n", 12, "-o", "out", *options)[0] == 0
    words = {"7": "7", "3 ann": "3-ann", "3 ben": "3-ben", "a/b ..": "a-b"}
    drawn = voice.classes_of(12, seed=0)
    names = [f"{words[name]}-{number:02}.wav" for number, name in enumerate(drawn)]
    assert set(drawn) == {"7", "3 ann", "a/b .."} and sorted(os.listdir("out")) == sorted(names)
    for name, expected in zip(names, voice.generate(12, steps=6), strict=True):
        heard(f"out/{name}", expected)
    assert run("generate", "--label", "3 ben", "-o", "out", *options)[1].startswith("wrote out/3-ben-00.wav\n")


def test_guidance_is_the_networks_own_or_what_is_asked_for(here: Path, run: Run) -> None:
    saved(here / "guided.safetensors", replace(LABELLED, guidance=1.5))
    voice, options = engine.load("guided.safetensors"), {"steps": 6, "seed": 4}
    clips = [voice.generate(1, "3", guidance=weight, **options)[0] for weight in (1.5, 1, 3)]
    for number, asked in enumerate(([], ["--guidance", 1], ["--guidance", 3])):
        command = ["generate", "--label", 3, "-o", "out.wav", "--model", "guided.safetensors", *asked]
        assert run(*command, "--steps", 6, "--seed", 4)[0] == 0
        heard("out.wav", clips[number])
        assert np.abs(read_wav("out.wav")[0] - clips[number - 1]).max() > 0.01


def test_one_clip_may_be_one_file(here: Path, run: Run) -> None:
    options = ["--model", "plain.safetensors", "--steps", 6, "--seconds", "0.05"]
    status, out, err = run("generate", "-o", "clip.wav", *options)
    assert (status, err) == (0, "") and re.fullmatch(f"wrote clip.wav\n{REPORT}\n", out)
    expected = engine.load("plain.safetensors").generate(1, steps=6, seconds=0.05)[0]
    assert expected.shape == (400,)
    heard("clip.wav", expected)
    assert run("generate", "-o", "clip.wav", *options)[0] == 0  # replaces it, as vocode does
    Path("folder.wav").mkdir()
    assert run("generate", "-o", "folder.wav", *options)[0] == 0
    heard("folder.wav/clip-00.wav", expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-n", 2, "-o", "out.wav"], "-o: expected a folder for 2 clips, got 'out.wav'"),
        (["-o", "taken"], "-o: cannot write into 'taken': it is not a directory"),
        (["-o", "no/out"], "-o: cannot write into 'no/out': there is no directory 'no'"),
        (["-n", 0, "-o", "out"], "-n: expected an integer from 1"),
        (["--label", 5, "-o", "out"], "label: expected one of '7', '3', 'a/b', or a whole name .*, got '5'"),
        (["--label", 7, "-o", "out", "--model", "plain.safetensors"], "label: this network has no classes"),
        (["-o", "out", "--model", "voice.safetensors"], "--model: this network wants a mel; use 'engine vocode'"),
        (["-o", "out", "--model", "digit"], "model: expected a file or one of 'voice', 'digits'"),
        (["-o", "out", "--seconds", "0"], "seconds: expected a number"),
        (["-o", "out", "--seconds", "nan"], "seconds: expected a number"),
        (["-o", "out", "--guidance", 2], "guidance: this network never learnt to be without a label"),
        (["-o", "out", "--guidance", 2, "--model", "plain.safetensors"], "guidance: this network has no classes"),
        (["-o", "out", "--seed", -1], "seed: expected integers from 0"),
        (["-o", "out", "--steps", 5], "steps: expected one of"),
        (["-o", "full", "--label", 7], "-o: cannot write 'full/7-00.wav': it is a directory"),
    ],
)
def test_generate_refuses(here: Path, run: Run, arguments: list[object], message: str) -> None:
    Path("taken").write_bytes(b"x")
    Path("full/7-00.wav").mkdir(parents=True)
    assert re.search(message, refused(run, "generate", "--model", "labelled.safetensors", *arguments))


def test_a_failure_leaves_no_clip_behind(here: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def failing(path: str, *rest: Any) -> None:
        calls.append(path)
        if len(calls) == 3:
            raise OSError(28, "No space left on device", path)
        write_wav(path, *rest)

    monkeypatch.setattr(cli_generation, "write_wav", failing)
    options = ["--model", "plain.safetensors", "--steps", 6, "-n", 4]
    assert refused(run, "generate", "-o", "out", *options) == "out/clip-02.wav: No space left on device"
    assert len(calls) == 3 and not Path("out").exists()
    calls.clear()
    Path("kept").mkdir()
    Path("kept/other.txt").write_text("mine")
    refused(run, "generate", "-o", "kept", *options)
    assert os.listdir("kept") == ["other.txt"]


def test_the_bundled_digits_are_the_default(here: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundled, "ASSETS", here)
    api.bundled.cache_clear()
    for command in (["generate", "-o", "out"], ["denoise", "a.wav", "-o", "o.wav"]):
        assert "this installation lacks the bundled network 'digits" in refused(run, *command)
    Path("labelled.safetensors").rename("digits.safetensors")
    Path("plain.safetensors").rename("digits-unconditional.safetensors")
    assert run("generate", "-o", "out", "--label", 7, "--steps", 6)[0] == 0
    assert run("denoise", "a.wav", "-o", "o.wav")[0] == 0
    assert "file         " + str(here / "digits.safetensors") in run("info", "digits")[1]
    api.bundled.cache_clear()


def test_denoise(here: Path, run: Run) -> None:
    for model, label in (("plain.safetensors", []), ("labelled.safetensors", ["--label", "3 ben"])):
        options = ["--model", model, "-t", 7, "--seed", 3, *label]
        status, out, err = run("denoise", "a.wav", "-o", "out.wav", *options)
        assert (status, err) == (0, "") and re.fullmatch(f"wrote out.wav\n{REPORT}\n", out)
        voice = engine.load(model)
        heard("out.wav", voice.denoise(read_wav("a.wav")[0], 7, seed=3, label=label[1] if label else None))


def test_interpolate(here: Path, run: Run) -> None:
    options = ["--model", "plain.safetensors", "--weight", ".25", "-t", 9, "--seed", 3]
    status, out, err = run("interpolate", "a.wav", "b.wav", "-o", "out.wav", *options)
    assert (status, err) == (0, "") and re.fullmatch(f"wrote out.wav\n{REPORT}\n", out)
    a, b = (read_wav(name)[0] for name in ("a.wav", "b.wav"))
    heard("out.wav", engine.load("plain.safetensors").interpolate(a, b, 0.25, 9, seed=3))


def test_recordings_at_another_rate_are_resampled(here: Path, run: Run) -> None:
    pytest.importorskip("soxr")
    write_wav("high.wav", np.sin(np.arange(320) / 18) * 0.3, 2 * PLAIN.sample_rate)
    status, _, err = run("denoise", "high.wav", "-o", "out.wav", "--model", "plain.safetensors")
    assert status == 0 and err == "engine: high.wav: resampled from 16000 to 8000 Hz\n"
    assert read_wav("out.wav")[0].shape == (160,)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["denoise", "a.wav", "-o", "a.wav"], "-o: cannot write 'a.wav': it is the input"),
        (["denoise", "a.wav", "-o", "out.mp3"], "-o: expected a name that ends in .wav"),
        (["denoise", "no.wav", "-o", "out.wav"], "no.wav"),
        (["denoise", "a.wav", "-o", "out.wav", "-t", 51], "t: expected an integer from 1 to 50, got 51"),
        (["denoise", "speech.wav", "-o", "o.wav", "--model", "voice.safetensors"], "mel: this network wants one"),
        (["interpolate", "a.wav", "b.wav", "-o", "b.wav"], "-o: cannot write 'b.wav': it is the input"),
        (["interpolate", "a.wav", "short.wav", "-o", "o.wav"], "short.wav: expected 160 samples as a.wav has, got 100"),
        (
            ["interpolate", "a.wav", "b.wav", "-o", "o.wav", "--weight", 2],
            "weight: expected a number from 0 to 1, got 2.0",
        ),
        (["interpolate", "a.wav", "b.wav", "-o", "o.wav", "-t", 0], "t: expected an integer from 1 to 50, got 0"),
    ],
)
def test_denoise_and_interpolate_refuse(here: Path, run: Run, arguments: list[object], message: str) -> None:
    write_wav("short.wav", np.zeros(100), PLAIN.sample_rate)
    write_wav("speech.wav", np.zeros(256), SMALL.sample_rate)
    options = [] if "--model" in arguments else ["--model", "plain.safetensors"]
    assert re.search(message, refused(run, *arguments, *options))
