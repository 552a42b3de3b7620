"""`engine generate`, `engine denoise` and `engine interpolate`."""

from __future__ import annotations

import os
import re
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import engine
from engine.audio.wav import read_wav, write_wav
from engine.checkpoint import bundled
from engine.cli import generation
from engine.cli.parsing import FAILED
from engine.voice import api
from tests.support.commands import REPORT, SMALL, Run, error_of, save_network, unconditional_config

PLAIN = replace(unconditional_config(), sample_rate=8000, clip_samples=160)
LABELLED = replace(PLAIN, classes=("7", "3 ann", "3 ben", "a/b .."))
STEP = 1.01 / 32768


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Change to a directory that holds networks and recordings."""
    networks = {"labelled": LABELLED, "plain": PLAIN, "voice": SMALL, "endless": replace(PLAIN, clip_samples=0)}
    for name, config in networks.items():
        save_network(tmp_path / f"{name}.safetensors", config)
    for name, pitch in (("a", 9.0), ("b", 5.0)):
        write_wav(tmp_path / f"{name}.wav", np.sin(np.arange(160) / pitch) * 0.3, PLAIN.sample_rate)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_float_wav(path: str, samples: Any, rate: int) -> None:
    fmt = struct.pack("<HHIIHH", 3, 1, rate, 4 * rate, 4, 32)
    data = samples.astype("<f4").tobytes()
    chunks = b"fmt " + struct.pack("<I", len(fmt)) + fmt + b"data" + struct.pack("<I", len(data)) + data
    Path(path).write_bytes(b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks)


def check_audio(path: Path | str, expected: Any) -> None:
    audio, rate = read_wav(path)
    assert rate == PLAIN.sample_rate
    np.testing.assert_allclose(audio, expected, atol=STEP)


def test_clips_of_a_label_in_a_new_folder(workspace: Path, run: Run) -> None:
    status, out, err = run(
        "generate", "--label", 7, "-n", 3, "-o", "out", "--model", "labelled.safetensors", "--seed", 5
    )
    assert (status, err) == (0, "")
    assert re.fullmatch(f"wrote 3 clips: out/7-00.wav to 7-02.wav\n{REPORT}\n", out)
    assert sorted(os.listdir("out")) == ["7-00.wav", "7-01.wav", "7-02.wav"]
    for number, expected in enumerate(engine.load("labelled.safetensors").generate(n=3, label=7, seed=5)):
        check_audio(f"out/7-0{number}.wav", expected)


def test_a_temperature(workspace: Path, run: Run) -> None:
    command = ("generate", "--label", 7, "-o", "clip.wav", "--model", "labelled.safetensors")
    assert run(*command, "--temperature", 0.5)[0] == 0
    expected = engine.load("labelled.safetensors").generate(label=7, temperature=0.5)[0]
    check_audio("clip.wav", expected)
    assert "--temperature: expected a number from 0 to 1, got 2" in error_of(run, *command, "--temperature", 2)


def test_file_names_show_the_drawn_class(workspace: Path, run: Run) -> None:
    voice, options = engine.load("labelled.safetensors"), ["--model", "labelled.safetensors", "--steps", 6]
    assert run("generate", "-n", 12, "-o", "out", *options)[0] == 0
    words = {"7": "7", "3 ann": "3-ann", "3 ben": "3-ben", "a/b ..": "a-b"}
    drawn = voice.classes_of(n=12, seed=0)
    names = [f"{words[name]}-{number:02}.wav" for number, name in enumerate(drawn)]
    assert set(drawn) == {"7", "3 ann", "a/b .."} and sorted(os.listdir("out")) == sorted(names)
    for name, expected in zip(names, voice.generate(n=12, steps=6), strict=True):
        check_audio(f"out/{name}", expected)
    assert run("generate", "--label", "3 ben", "-o", "out", *options)[1].startswith("wrote out/3-ben-00.wav\n")


def test_guidance_of_the_network_and_of_the_option(workspace: Path, run: Run) -> None:
    save_network(workspace / "guided.safetensors", replace(LABELLED, guidance=1.5))
    voice, options = engine.load("guided.safetensors"), {"steps": 6, "seed": 4}
    clips = [voice.generate(n=1, label="3", guidance=weight, **options)[0] for weight in (1.5, 1, 3)]
    for number, option in enumerate(([], ["--guidance", 1], ["--guidance", 3])):
        command = ["generate", "--label", 3, "-o", "out.wav", "--model", "guided.safetensors", *option]
        assert run(*command, "--steps", 6, "--seed", 4)[0] == 0
        check_audio("out.wav", clips[number])
        assert np.abs(read_wav("out.wav")[0] - clips[number - 1]).max() > 0.01


def test_one_clip_may_be_one_file(workspace: Path, run: Run) -> None:
    options = ["--model", "plain.safetensors", "--steps", 6, "--seconds", "0.05"]
    status, out, err = run("generate", "-o", "clip.wav", *options)
    assert (status, err) == (0, "") and re.fullmatch(f"wrote clip.wav\n{REPORT}\n", out)
    expected = engine.load("plain.safetensors").generate(n=1, steps=6, seconds=0.05)[0]
    assert expected.shape == (400,)
    check_audio("clip.wav", expected)
    assert run("generate", "-o", "clip.wav", *options)[0] == 0  # replaces the file
    Path("folder.wav").mkdir()
    assert run("generate", "-o", "folder.wav", *options)[0] == 0
    check_audio("folder.wav/clip-00.wav", expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-n", 2, "-o", "out.wav"], "-o: expected a folder for 2 clips, got 'out.wav'"),
        (["-o", "taken"], "-o: cannot write into 'taken': it is not a directory"),
        (["-o", "no/out"], "-o: cannot write into 'no/out': there is no directory 'no'"),
        (["-n", 0, "-o", "out"], "-n: expected an integer from 1"),
        (["--label", 5, "-o", "out"], "--label: expected one of '7', '3', 'a/b', or a whole name .*, got '5'"),
        (
            ["--label", 7, "-o", "out", "--model", "plain.safetensors"],
            "--label: this network has no classes; expected no --label, got '7'",
        ),
        (
            ["-o", "out", "--model", "voice.safetensors"],
            "--model: expected a network without a mel, got one that takes a mel; use 'engine vocode'",
        ),
        (["-o", "out", "--model", "endless.safetensors"], "--seconds: expected the length of a clip"),
        (["-o", "out", "--model", "digit"], "--model: expected a file or one of 'voice', 'digits'"),
        (["-o", "out", "--seconds", "0"], "--seconds: expected a number"),
        (["-o", "out", "--seconds", "nan"], "--seconds: expected a number"),
        (["-o", "out", "--guidance", 2], "--guidance: .*; expected no --guidance or 1, got 2.0"),
        (
            ["-o", "out", "--guidance", 2, "--model", "plain.safetensors"],
            "--guidance: this network has no classes; expected no --guidance, got 2.0",
        ),
        (["-o", "out", "--seed", -1], "--seed: expected integers from 0"),
        (["-o", "out", "--steps", 7], "--steps: expected 1 to 6 or 50, "),
        (["-o", "full", "--label", 7], "-o: cannot write 'full/7-00.wav': it is a directory"),
    ],
)
def test_impossible_arguments_of_generate(workspace: Path, run: Run, arguments: list[object], message: str) -> None:
    Path("taken").write_bytes(b"x")
    Path("full/7-00.wav").mkdir(parents=True)
    assert re.match(message, error_of(run, "generate", "--model", "labelled.safetensors", *arguments))


def test_a_failure_leaves_no_clip_behind(workspace: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def fail_third(path: str, *others: Any) -> None:
        calls.append(path)
        if len(calls) == 3:
            raise OSError(28, "No space left on device", path)
        write_wav(path, *others)

    monkeypatch.setattr(generation, "write_wav", fail_third)
    options = ["--model", "plain.safetensors", "--steps", 6, "-n", 4]
    error = error_of(run, "generate", "-o", "out", *options, expected=FAILED)
    assert error == "out/clip-02.wav: No space left on device"
    assert len(calls) == 3 and not Path("out").exists()
    calls.clear()
    Path("kept").mkdir()
    Path("kept/other.txt").write_text("mine")
    error_of(run, "generate", "-o", "kept", *options, expected=FAILED)
    assert os.listdir("kept") == ["other.txt"]


def test_the_bundled_digits_are_the_default(workspace: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundled, "ASSETS", workspace)
    api.bundled_voice.cache_clear()
    for command in (["generate", "-o", "out"], ["denoise", "a.wav", "-o", "o.wav"]):
        assert "this installation lacks the bundled network 'digits" in error_of(run, *command)
    Path("labelled.safetensors").rename("digits.safetensors")
    Path("plain.safetensors").rename("digits-unconditional.safetensors")
    assert run("generate", "-o", "out", "--label", 7, "--steps", 6)[0] == 0
    assert run("denoise", "a.wav", "-o", "o.wav")[0] == 0
    assert "file         " + str(workspace / "digits.safetensors") in run("info", "digits")[1]
    api.bundled_voice.cache_clear()


def test_denoise(workspace: Path, run: Run) -> None:
    for model, label in (("plain.safetensors", []), ("labelled.safetensors", ["--label", "3 ben"])):
        options = ["--model", model, "-t", 7, "--seed", 3, *label]
        status, out, err = run("denoise", "a.wav", "-o", "out.wav", *options)
        assert (status, err) == (0, "") and re.fullmatch(f"wrote out.wav\n{REPORT}\n", out)
        voice = engine.load(model)
        check_audio("out.wav", voice.denoise(read_wav("a.wav")[0], t=7, seed=3, label=label[1] if label else None))


@pytest.mark.parametrize("command", [("denoise", "a.wav"), ("interpolate", "a.wav", "b.wav"), ("generate",)])
def test_the_suffix_decides_the_format(workspace: Path, run: Run, command: tuple[str, ...]) -> None:
    soundfile = pytest.importorskip("soundfile")
    options = ["--model", "plain.safetensors", *(["--seconds", "0.05"] if command == ("generate",) else ["-t", 3])]
    for name in ("out.wav", "out.flac"):
        assert run(*command, "-o", name, *options)[0] == 0
    assert soundfile.info("out.flac").format == "FLAC"
    np.testing.assert_array_equal(soundfile.read("out.flac", dtype="float32")[0], read_wav("out.wav")[0])


def test_interpolate(workspace: Path, run: Run) -> None:
    options = ["--model", "plain.safetensors", "--weight", ".25", "-t", 9, "--seed", 3]
    status, out, err = run("interpolate", "a.wav", "b.wav", "-o", "out.wav", *options)
    assert (status, err) == (0, "") and re.fullmatch(f"wrote out.wav\n{REPORT}\n", out)
    a, b = (read_wav(name)[0] for name in ("a.wav", "b.wav"))
    check_audio("out.wav", engine.load("plain.safetensors").interpolate(a, b, weight=0.25, t=9, seed=3))


def test_recordings_at_another_rate_are_resampled(workspace: Path, run: Run) -> None:
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
        (["denoise", "no.wav", "-o", "out.wav"], "no.wav: cannot read it: No such file"),
        (["denoise", "a.wav", "-o", "out.wav", "-t", 51], "-t: expected an integer from 1 to 50, got 51"),
        (
            ["denoise", "speech.wav", "-o", "o.wav", "--model", "voice.safetensors"],
            "--model: expected a network without a mel, got one that takes a mel; Voice.denoise",
        ),
        (
            ["interpolate", "speech.wav", "speech.wav", "-o", "o.wav", "--model", "voice.safetensors"],
            "--model: expected a network without a mel, got one that takes a mel; use one that needs none",
        ),
        (
            ["denoise", "a.wav", "-o", "o.wav", "--model", "labelled.safetensors"],
            "--label: this network has classes; expected one of .*, got none",
        ),
        (["denoise", "loud.wav", "-o", "o.wav"], "loud.wav: expected samples in about"),
        (["interpolate", "a.wav", "b.wav", "-o", "b.wav"], "-o: cannot write 'b.wav': it is the input"),
        (
            ["interpolate", "a.wav", "short.wav", "-o", "o.wav"],
            "short.wav: expected 160 samples, the length of a.wav, got 100",
        ),
        (
            ["interpolate", "a.wav", "b.wav", "-o", "o.wav", "--weight", 2],
            "--weight: expected a number from 0 to 1, got 2.0",
        ),
        (["interpolate", "a.wav", "b.wav", "-o", "o.wav", "-t", 0], "-t: expected an integer from 1 to 50, got 0"),
    ],
)
def test_impossible_arguments_of_denoise_and_interpolate(
    workspace: Path, run: Run, arguments: list[object], message: str
) -> None:
    write_wav("short.wav", np.zeros(100), PLAIN.sample_rate)
    write_float_wav("loud.wav", np.full(160, 9.0, np.float32), PLAIN.sample_rate)
    write_wav("speech.wav", np.zeros(256), SMALL.sample_rate)
    options = [] if "--model" in arguments else ["--model", "plain.safetensors"]
    assert re.match(message, error_of(run, *arguments, *options))
