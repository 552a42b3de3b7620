"""`engine vocode` of whole mels and recordings."""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import engine
from engine.audio.wav import read_wav
from engine.checkpoint.bundled import BUNDLED
from engine.cli import options, vocode
from engine.cli.parsing import UNAVAILABLE
from engine.voice import Voice
from tests.support.commands import FRAMES, MEL, REPORT, SMALL, Run, error_of, save_network, unconditional_config


def test_the_file_holds_the_audio_of_the_library(workspace: Path, run: Run) -> None:
    status, out, err = run("vocode", "mel.npy", "-o", "out.wav", "--model", "small.safetensors", "--seed", 3)
    assert (status, err) == (0, "")
    assert re.fullmatch(f"wrote out.wav\n{REPORT}\n", out)
    audio, rate = read_wav("out.wav")
    expected = engine.load("small.safetensors").vocode(MEL, seed=3)
    assert rate == SMALL.sample_rate and len(audio) == FRAMES * SMALL.hop
    np.testing.assert_allclose(audio, expected, atol=1.01 / 32768)  # 16 bits cannot represent 1


def test_a_draft(workspace: Path, run: Run) -> None:
    command = ("vocode", "mel.npy", "--model", "small.safetensors", "--draft", "griffin-lim", "-o")
    assert run(*command, "two.wav")[0] == run(*command, "one.wav", "--steps", 1, "--seed", 3)[0] == 0
    voice = engine.load("small.safetensors")
    expected = {"two": voice.vocode(MEL, draft="griffin-lim")}
    expected["one"] = voice.vocode(MEL, draft="griffin-lim", steps=1, seed=3)
    for name, audio in expected.items():
        np.testing.assert_allclose(read_wav(f"{name}.wav")[0], audio, atol=1.01 / 32768)
    for more in (("stream.wav", "--stream"), ("-",)):
        text = error_of(run, *command, *more)
        assert "--draft: expected rtisi-la for a stream, got griffin-lim, which needs the whole mel" in text
    online = [*command[:-2], "rtisi-la", "--seed", "3", "-o"]
    run(*online, "whole.wav")
    run(*online, "stream.wav", "--stream")
    assert (workspace / "whole.wav").read_bytes() == (workspace / "stream.wav").read_bytes()
    audio = voice.vocode(MEL, draft="rtisi-la", seed=3)
    np.testing.assert_allclose(read_wav("whole.wav")[0], audio, atol=1.01 / 32768)


def test_matching_the_mel(workspace: Path, run: Run) -> None:
    command = ("vocode", "mel.npy", "--model", "small.safetensors", "-o")
    voice = engine.load("small.safetensors")
    for gain in (1.0, 1.5, math.inf):
        assert run(*command, "out.wav", "--match-mel", gain)[0] == 0
        np.testing.assert_allclose(read_wav("out.wav")[0], voice.vocode(MEL, match_mel=gain), atol=1.01 / 32768)
    for gain in ("0.9", "nan", "-inf"):
        expected = f"--match-mel: expected a number of at least 1, or inf, got '{gain}'"
        assert expected in error_of(run, *command, "out.wav", f"--match-mel={gain}")
    assert "--match-mel: expected a number, got 'all'" in error_of(run, *command, "out.wav", "--match-mel", "all")
    assert run(*command, "stream.wav", "--match-mel", "inf", "--stream")[0] == 0
    assert Path("stream.wav").read_bytes() == Path("out.wav").read_bytes()


@pytest.mark.parametrize("suffix", ["flac", "OGG"])
def test_the_suffix_decides_the_format(workspace: Path, run: Run, suffix: str) -> None:
    soundfile = pytest.importorskip("soundfile")
    command = ("vocode", "mel.npy", "--model", "small.safetensors", "-o")
    status, out, _ = run(*command, f"out.{suffix}")
    assert status == run(*command, "out.wav")[0] == 0 and out.startswith(f"wrote out.{suffix}\n")
    with soundfile.SoundFile(f"out.{suffix}") as file:
        assert (file.format, file.samplerate, file.channels) == (suffix.upper(), SMALL.sample_rate, 1)
        audio = file.read(dtype="float32")
    same = read_wav("out.wav")[0]
    assert len(audio) == len(same)
    if suffix == "flac":
        np.testing.assert_array_equal(audio, same)
    assert "ends in .wav" in error_of(run, *command, f"stream.{suffix}", "--stream")


def test_a_format_without_its_library(workspace: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "soundfile", None)
    message = error_of(run, "vocode", "mel.npy", "--model", "small.safetensors", "-o", "out.flac", expected=UNAVAILABLE)
    assert "-o: a .flac file needs soundfile; pip install" in message and not Path("out.flac").exists()


@pytest.mark.parametrize("steps", [1, 2, 3, 5])
def test_few_steps(workspace: Path, run: Run, steps: int) -> None:
    command = ("vocode", "mel.npy", "--model", "small.safetensors", "--seed", 3, "--steps", steps)
    assert run(*command, "-o", "out.wav")[0] == run(*command, "-o", "stream.wav", "--stream", "--device", "cpu")[0] == 0
    audio = read_wav("out.wav")[0]
    expected = engine.load("small.safetensors").vocode(MEL, seed=3, steps=steps)
    np.testing.assert_allclose(audio, expected, atol=1.01 / 32768)
    np.testing.assert_array_equal(read_wav("stream.wav")[0], audio)


def test_every_option_reaches_the_library(workspace: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    class Spy(Voice):
        def vocode(self, mel: Any, *, steps: Any = 6, seed: Any = 0, **others: Any) -> Any:
            seen.update(steps=steps, seed=seed, threads=self.threads, choice=self.choice, kind=self.config.mel_kind)
            return super().vocode(mel, steps=steps, seed=seed, **others)

    monkeypatch.setattr("engine.voice.api.Voice", Spy)
    save_network(Path("unknown.safetensors"), replace(SMALL, mel_kind=None))
    arguments = ["--model", "unknown.safetensors", "--steps", "full", "--seed", str(2**64 - 1), "--precision", "fp32"]
    arguments += ["--threads", "3", "--isa", "generic", "--mel-kind", "lmnt"]
    assert run("vocode", "mel.npy", "-o", "out.wav", *arguments)[0] == 0
    choice = seen.pop("choice")
    assert seen == {"steps": "full", "seed": 2**64 - 1, "threads": 3, "kind": "lmnt"}
    assert (choice.isa, choice.precision) == ("generic", "fp32")
    assert run("vocode", "mel.npy", "-o", "out.wav", "--model", "small.safetensors", "--steps", "50")[0] == 0
    assert seen["steps"] == 50 and seen["seed"] == 0


def test_the_report_times_only_the_vocoding(workspace: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]

    def taking(seconds: float, function: Callable[..., Any]) -> Callable[..., Any]:
        def slow(*arguments: Any, **options: Any) -> Any:
            now[0] += seconds
            return function(*arguments, **options)

        return slow

    monkeypatch.setattr(vocode.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(options, "read_channels", taking(100, options.read_channels))
    monkeypatch.setattr(vocode, "write_audio", taking(100, vocode.write_audio))
    monkeypatch.setattr(engine, "load", taking(100, engine.load))
    monkeypatch.setattr(engine, "mel", taking(100, engine.mel))
    monkeypatch.setattr(Voice, "vocode", taking(0.5, Voice.vocode))
    status, out, _ = run("vocode", "in.wav", "-o", "out.wav", "--model", "small.safetensors")
    # 1 + 4000 // 256 = 16 frames of 256 samples
    assert status == 0 and out.splitlines()[-1] == "0.186 s of audio in 0.50 s: RTF 2.7, 0.37x real time"
    assert now[0] == 400.5


@pytest.mark.parametrize("name", ["m.npz", "m.safetensors"])
def test_every_mel_format_gives_the_same_audio(workspace: Path, run: Run, name: str) -> None:
    from safetensors.numpy import save_file

    other = np.zeros(3, np.float32)
    if name == "m.npz":
        np.savez(name, mel=MEL[None], other=other)
    else:
        save_file({"mel": MEL[None], "other": other}, name)
    for source, target in (("mel.npy", "a.wav"), (name, "b.wav")):
        assert run("vocode", source, "-o", target, "--model", "small.safetensors")[0] == 0
    assert Path("a.wav").read_bytes() == Path("b.wav").read_bytes()


def test_errors_of_the_input_name_the_file(workspace: Path, run: Run) -> None:
    Path("damaged.wav").write_bytes(b"RIFF\0\0\0\0WAVE")
    Path("noise.bin").write_bytes(os.urandom(64).replace(b"P", b"Q"))
    np.save("transposed.npy", MEL.T)
    np.save("batch.npy", np.stack([MEL, MEL]))
    np.save("nan.npy", np.where(MEL > 0.5, np.nan, MEL))
    np.save("log.npy", MEL * -11)
    np.savez("several.npz", a=MEL, b=MEL)
    for name, message in {
        "absent.npy": "absent.npy: cannot read it: No such file or directory",
        "absent.wav": "absent.wav: cannot read it: No such file or directory",
        "damaged.wav": "damaged.wav: .*truncated or damaged WAV file",
        "noise.bin": "noise.bin: expected a mel .* or a WAV file",
        "transposed.npy": r"transposed.npy: .*got \(12, 80\), which looks transposed; transpose it",
        "batch.npy": r"batch.npy: expected one mel .*, got shape \(2, 80, 12\)",
        "nan.npy": "nan.npy: expected finite values, got nan",
        "log.npy": "log.npy: .*'lmnt' mels in .* which look like a log mel .*'engine mel --kind lmnt'",
        "several.npz": "several.npz: expected one array, or one called 'mel', got 2: 'a', 'b'",
        "small.safetensors": "small.safetensors: expected one array, or one called 'mel', got 3",
    }.items():
        for mode in ([], ["--stream"]):
            error = error_of(run, "vocode", name, "-o", "out.wav", "--model", "small.safetensors", *mode)
            assert re.match(message, re.sub(r", piece \d+", "", error)), name


def test_errors_of_the_model_name_the_file_or_the_flag(workspace: Path, run: Run) -> None:
    command = ["vocode", "mel.npy", "-o", "out.wav", "--model"]
    assert error_of(run, *command, "absent.pt").startswith("absent.pt: cannot read it: No such file")
    assert re.match("in.wav: .*first b'", error_of(run, *command, "in.wav"))
    assert error_of(run, *command, "voyce").startswith("--model: expected a file or one of 'voice'")
    plain = save_network(workspace.parent / "plain.safetensors", unconditional_config())
    for mode in ([], ["--stream"]):
        assert error_of(run, *command, plain, *mode) == (
            "--model: expected a network that takes a mel, got one without; use 'engine generate'"
        )
    save_network(workspace.parent / "prior.safetensors", replace(SMALL, prior=True))
    assert error_of(run, *command, "../prior.safetensors").startswith(
        "--energy-min: expected the smallest frame energy"
    )
    for many in ([], ["other.npy"]):
        np.save("other.npy", np.load("mel.npy"))
        output = "out" if many else "out.wav"
        options = ["-o", output, "--model", "../prior.safetensors", "--draft", "griffin-lim"]
        assert error_of(run, "vocode", "mel.npy", *many, *options) == (
            "--draft: PriorGrad's noise is not white, so its networks take no draft; leave it out, and pass "
            "--energy-min, the smallest frame energy of its training data"
        )


def test_the_bundled_voice_speaks_the_demo_mel(workspace: Path, run: Run) -> None:
    demo = np.load(BUNDLED.with_name("demo_mel.npy"))[:, 60:100]
    np.save("part.npy", demo)
    status, out, err = run("vocode", "part.npy", "-o", "demo.wav")
    assert (status, err) == (0, "") and re.fullmatch(f"wrote demo.wav\n{REPORT}\n", out)
    audio, rate = read_wav("demo.wav")
    assert rate == 22050 and len(audio) == 40 * 256
    # The mel of the audio is nearer to the demo than a constant mel is.
    error = np.abs(engine.mel(audio, rate)[:, :40] - demo).mean()
    assert error < 0.8 * np.abs(demo - demo.mean()).mean()
    assert f"file         {BUNDLED}\n" in run("info")[1]
