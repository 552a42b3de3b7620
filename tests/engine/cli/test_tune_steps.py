"""`engine tune-steps`."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import engine
from engine.audio.wav import write_wav
from engine.checkpoint.load import load_checkpoint
from engine.checks.arrays import FloatArray
from engine.cli.parsing import UNAVAILABLE
from engine.cli.tune_steps import read_clips
from engine.config import Config
from engine.diffusion.schedule import build_schedule
from engine.errors import InputError
from engine.training import quality
from tests.support.commands import SMALL, Run, error_of, save_network, unconditional_config

RATE = SMALL.sample_rate
EXECUTION = ("--device", "cpu", "--precision", "fp32", "--threads", 1)
COMMAND = ("tune-steps", "small.safetensors", "--clips", "clips", *EXECUTION)


def tone(seconds: float, hertz: float) -> FloatArray:
    return np.float32(0.3) * np.sin(2 * np.pi * hertz * np.arange(round(seconds * RATE)) / RATE).astype(np.float32)


@pytest.fixture
def clips(workspace: Path) -> Path:
    """Write three recordings of 0.6 s to 1 s, a hidden file, a folder and a text."""
    folder = workspace / "clips"
    folder.mkdir()
    for name, seconds, hertz in (("a.wav", 0.6, 200.0), ("b.WAV", 0.8, 400.0), ("c.wav", 1.0, 600.0)):
        write_wav(str(folder / name), tone(seconds, hertz), RATE)
    (folder / ".hidden.wav").write_bytes(b"")
    (folder / "notes.txt").write_text("no recording")
    (folder / "more").mkdir()
    return folder


def test_the_best_schedules_are_recorded(clips: Path, run: Run) -> None:
    status, out, err = run(*COMMAND, "-o", "out.safetensors", "--steps", 1, 2, 3)
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].startswith("log-mel error (lower is better), 3 clips, 2.4 s; the recordings: 0.000")
    assert [line.split()[0] for line in lines[1:]] == ["steps", "1", "2", "3", "wrote"]
    before, tuned = load_checkpoint("small.safetensors"), load_checkpoint("out.safetensors")
    assert replace(tuned.config, schedules=()) == before.config and not before.config.schedules
    assert [len(betas) for betas in tuned.config.schedules] == [1, 2, 3]
    voice = engine.load("out.safetensors", device="cpu", precision="fp32", threads=1)
    pieces = read_clips(clips, tuned.config, 8, 4.0)
    for betas, line in zip(tuned.config.schedules, lines[2:5], strict=True):
        assert build_schedule(tuned.config, len(betas)).beta == betas[::-1]
        audio = voice.vocode([clip.mel for clip in pieces], steps=len(betas), seed=0)
        errors = [quality.log_mel_error(clip.audio, a, RATE) for clip, a in zip(pieces, audio, strict=True)]
        assert float(line.split()[1]) == pytest.approx(np.mean(errors), abs=5.1e-4)
        assert float(line.split()[1]) <= float(line.split()[2])  # never worse than before
        for count in (1, 2, 3):
            assert f"  {count:<5}  the checkpoint's own: noise" in run("info", "out.safetensors")[1]
    for name, tensor in before.tensors.items():
        np.testing.assert_array_equal(tuned.tensors[name], tensor)


def test_the_result_as_json(clips: Path, run: Run) -> None:
    options = ("--steps", 2, "--max-clips", 2, "--seconds", 0.5, "--seed", 4, "--json", "--dtype", "float16")
    status, out, err = run(*COMMAND, "-o", "out.safetensors", *options)
    result = json.loads(out)
    assert (status, err, out.count("\n")) == (0, "", 1)
    keys = ["file", "judge", "higher_is_better", "clips", "audio_seconds", "recordings", "schedules"]
    assert list(result) == keys and (result["file"], result["judge"]) == ("out.safetensors", "mel")
    assert (result["clips"], result["recordings"], result["higher_is_better"]) == (2, 0.0, False)
    assert result["audio_seconds"] == pytest.approx(1.0, abs=0.02)
    [schedule] = result["schedules"]
    assert list(schedule) == ["steps", "betas", "figure", "before"] and schedule["steps"] == 2
    assert load_checkpoint("out.safetensors").config.schedules == (tuple(schedule["betas"]),)
    assert schedule["figure"] <= schedule["before"]
    assert Path("out.safetensors").stat().st_size < 0.6 * Path("small.safetensors").stat().st_size
    again = run(*COMMAND, "-o", "again.safetensors", *options)
    assert json.loads(again[1]) == {**result, "file": "again.safetensors"}
    assert Path("again.safetensors").read_bytes() == Path("out.safetensors").read_bytes()


def test_a_foreign_fast_schedule(clips: Path, run: Run) -> None:
    config = replace(SMALL, fast_schedule=tuple(np.geomspace(1e-4, 0.3, 7).tolist()))
    save_network(Path("foreign.safetensors"), config)
    assert "'engine tune-steps' finds" in error_of(
        run, "vocode", "mel.npy", "-o", "x.wav", "--model", "foreign.safetensors", "--steps", 3
    )
    command = ("tune-steps", "foreign.safetensors", "--clips", "clips", "--max-clips", 1, "--steps", 3, *EXECUTION)
    status, out, _ = run(*command, "-o", "tuned.safetensors")
    assert status == 0 and out.splitlines()[2].split()[2] == "-"  # there was no schedule of three steps
    assert run("vocode", "mel.npy", "-o", "x.wav", "--model", "tuned.safetensors", "--steps", 3)[0] == 0


def test_recordings_and_their_mels(clips: Path) -> None:
    pieces = read_clips(clips, SMALL, 8, 4.0)
    assert [clip.mel.shape[1] * 256 for clip in pieces] == [len(clip.audio) for clip in pieces]
    whole = [tone(seconds, hertz) for seconds, hertz in ((0.6, 200.0), (0.8, 400.0), (1.0, 600.0))]
    for clip, samples in zip(pieces, whole, strict=True):
        length = min(len(samples), len(clip.audio))
        np.testing.assert_allclose(clip.audio[:length], samples[:length], atol=1.01 / 32768)
        assert not clip.audio[length:].any() and len(clip.audio) - length < 256
        np.testing.assert_array_equal(clip.mel, engine.mel(clip.audio[:length], RATE))
    middle = read_clips(clips, SMALL, 2, 0.5)[1].audio
    at = np.argmin([np.abs(whole[1][n * 256 : n * 256 + len(middle)] - middle).max() for n in range(20)])
    assert len(middle) == 43 * 256 and 12 <= at <= 13  # of 69 frames, the middle 43
    mel = np.random.default_rng(0).random((80, 52)).astype(np.float32)
    np.save(clips / "a.npy", mel)
    np.testing.assert_array_equal(read_clips(clips, SMALL, 1, 4.0)[0].mel, mel)
    np.save(clips / "a.npy", mel[:, :40])
    with pytest.raises(InputError, match=r"a\.npy: expected the mel of a\.wav, about 52 frames, got 40"):
        read_clips(clips, SMALL, 1, 4.0)
    np.savez(clips / "a.npz", mel=mel)
    with pytest.raises(InputError, match=r"a\.wav: expected one mel beside it, got a\.npy and a\.npz"):
        read_clips(clips, SMALL, 1, 4.0)


def test_another_hop_needs_mels(clips: Path, run: Run) -> None:
    config = replace(SMALL, upsample_strides=(15, 20))
    save_network(Path("small.safetensors"), config)
    assert "expected a hop of 256 samples, got 300" in error_of(run, *COMMAND, "-o", "out.safetensors")
    for name, seconds in (("a", 0.6), ("b", 0.8), ("c", 1.0)):
        frames = round(seconds * RATE / 300)
        np.save(clips / f"{name}.npy", np.random.default_rng(frames).random((80, frames), np.float32))
    assert run(*COMMAND, "-o", "out.safetensors", "--steps", 1)[0] == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("-o", "out.wav"), "-o: expected a name that ends in .safetensors"),
        (("--clips", "absent"), "--clips: expected a folder, got 'absent'"),
        (("--clips", "clips/more"), "clips/more: expected recordings (.wav, .flac, .ogg, .mp3), got none"),
        (("--steps", 0), "--steps: expected numbers from 1 to 6, got [0]"),
        (("--steps", 2, 7), "--steps: expected numbers from 1 to 6, got [2, 7]"),
        (("--steps", "few"), "--steps: expected an integer, got 'few'"),
        (("--judge", "ear"), "--judge: expected one of mel, pesq, mos, got 'ear'"),
        (("--seconds", 0.1), "--seconds: expected at least 0.5, got 0.1"),
        (("--seconds", "nan"), "--seconds: expected at least 0.5, got nan"),
        (("--max-clips", 0), "--max-clips: expected"),
        (("--energy-min", 0.1), "--energy-min: "),
    ],
)
def test_impossible_options(clips: Path, run: Run, options: tuple[object, ...], message: str) -> None:
    assert error_of(run, *COMMAND, "-o", "out.safetensors", *options).startswith(message)


def test_impossible_networks(clips: Path, run: Run) -> None:
    def refused(config: Config, *options: object) -> str:
        save_network(Path("small.safetensors"), config)
        return error_of(run, *COMMAND, "-o", "out.safetensors", *options)

    assert refused(unconditional_config()) == "CKPT: expected a network that takes a mel, got one without"
    assert "--judge: expected pesq or mos for audio of 8000 Hz, got mel" in refused(replace(SMALL, sample_rate=8000))
    assert "energy_min" in refused(replace(SMALL, prior=True, mel_kind="hifigan")).replace("-", "_")
    save_network(Path("small.safetensors"), SMALL)
    error = error_of(run, "tune-steps", "absent.pt", "--clips", "clips", "-o", "a.safetensors")
    assert error.startswith("absent.pt: cannot read it")
    write_wav("clips/a.wav", np.zeros(300, np.float32), RATE)
    assert error_of(run, *COMMAND, "-o", "out.safetensors").startswith("clips/a.wav: expected at least 0.5 s")


@pytest.mark.parametrize(("judge", "module"), [("pesq", "pystoi"), ("pesq", "pesq")])
def test_a_judge_that_is_not_installed(
    clips: Path, run: Run, monkeypatch: pytest.MonkeyPatch, judge: str, module: str
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == module else object())
    error = error_of(run, *COMMAND, "-o", "out.safetensors", "--judge", judge, expected=UNAVAILABLE)
    assert error.startswith(f"--judge: {judge} needs {module}, which is not installed; run pip install")
    assert error.endswith(", or use --judge mel") and "quality" in error


def test_the_judge_decides(clips: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two judges of opposite taste record different schedules; the one that hears no recording leaves it out."""
    seen: list[Any] = []

    def loudness(audio: FloatArray, rate: int) -> float:
        seen.append(rate)
        return float(np.square(audio).mean())

    def score(judge: Any) -> tuple[tuple[float, ...], ...]:
        monkeypatch.setattr(quality, "predicted_mos", judge, raising=False)
        command = (*COMMAND, "-o", "out.safetensors", "--judge", "mos", "--steps", 2)
        status, out, err = run(*command)
        assert status == 0 and out.startswith("predicted MOS (higher is better), ")
        assert err == (
            "" if judge is not hears_two else "engine: left out 1 recordings with too little speech for mos\n"
        )
        return load_checkpoint("out.safetensors").config.schedules

    def hears_two(audio: FloatArray, rate: int) -> float:
        return float("nan") if len(audio) == 52 * 256 else 3.0

    loud, quiet = score(loudness), score(lambda audio, rate: -loudness(audio, rate))
    assert loud != quiet and set(seen) == {RATE}
    assert score(hears_two) == (build_schedule(SMALL, 2).beta[::-1],)
    monkeypatch.setattr(quality, "predicted_mos", lambda audio, rate: float("nan"), raising=False)
    error = error_of(run, *COMMAND, "-o", "none.safetensors", "--judge", "mos")
    assert error == "--clips: expected recordings that mos can judge, got none with enough speech"


def test_an_interrupted_search_leaves_no_file(clips: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def interrupted(recording: FloatArray, audio: FloatArray, rate: int) -> float:
        calls.append(len(audio))
        if len(calls) > 8:
            raise KeyboardInterrupt
        return 1.0

    monkeypatch.setattr(quality, "log_mel_error", interrupted)
    before = sorted(Path().rglob("*"))
    assert run(*COMMAND, "-o", "out.safetensors")[0] == 130
    assert sorted(Path().rglob("*")) == before and len(calls) == 9
