"""What commands report beside their result: --json, --quiet, -v and notices."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import engine
from engine.audio.wav import read_wav, write_wav
from engine.cli.main import build_parser
from engine.cli.messages import LIBRARY, NOTICES, progress_stream
from engine.config import Config
from tests.support.commands import REPORT, SMALL, Run, error_of, save_network, unconditional_config

AUDIO_KEYS = [
    "files",
    "sample_rate",
    "audio_seconds",
    "work_seconds",
    "rtf",
    "times_real_time",
    "device",
    "isa",
    "precision",
    "threads",
]
INFO_KEYS = [
    *("file", "bytes", "sha256", "family", "differences", "network", "weights", "other_weights", "unused_tensors"),
    *(
        "mel",
        "classes",
        "guidance",
        "temperature",
        "clip_samples",
        "sample_rate",
        "training_schedule",
        "objective",
        "fast_schedule",
        "steps",
        "needs",
        "choice",
        "threads",
        "reasons",
        "tiers",
        "gpu_kernels",
    ),
]
EXECUTION = ("--device", "cpu", "--isa", "generic", "--threads", 1)
NAMES = ("3 ann", "4 ben")


@pytest.fixture
def networks(workspace: Path) -> Path:
    """Add networks without a mel, and a recording in two channels."""
    free = replace(unconditional_config(), clip_samples=512)
    save_network(workspace / "free.safetensors", free)
    save_network(workspace / "classes.safetensors", replace(free, classes=NAMES))
    write_wav(workspace / "sound.wav", np.zeros(512, np.float32), SMALL.sample_rate)
    return workspace


def command_of(name: str) -> tuple[object, ...]:
    lines: dict[str, tuple[object, ...]] = {
        "vocode": ("vocode", "mel.npy", "-o", "out.wav", "--model", "small.safetensors"),
        "stream": ("vocode", "mel.npy", "-o", "out.wav", "--stream", "--model", "small.safetensors"),
        "generate": ("generate", "-n", 2, "--label", "3", "-o", "out", "--model", "classes.safetensors"),
        "unconditional": ("generate", "-o", "out.wav", "--model", "free.safetensors"),
        "denoise": ("denoise", "sound.wav", "-o", "out.wav", "--model", "free.safetensors"),
        "interpolate": ("interpolate", "sound.wav", "sound.wav", "-o", "out.wav", "--model", "free.safetensors"),
    }
    return (*lines[name], *EXECUTION)


AUDIO = ["vocode", "stream", "generate", "unconditional", "denoise", "interpolate"]


@pytest.mark.parametrize("name", AUDIO)
def test_the_result_as_json(networks: Path, run: Run, name: str) -> None:
    status, out, err = run(*command_of(name), "--json")
    result = json.loads(out)
    assert (status, err, out.count("\n")) == (0, "", 1)
    classes = {"generate": ["3 ann", "3 ann"], "unconditional": [None]}.get(name)
    assert list(result) == AUDIO_KEYS + ["classes"] * (classes is not None) and result.get("classes") == classes
    assert result["files"] == (["out/3-ann-00.wav", "out/3-ann-01.wav"] if name == "generate" else ["out.wav"])
    audio = [read_wav(file) for file in result["files"]]
    assert result["audio_seconds"] == pytest.approx(sum(len(samples) for samples, _ in audio) / audio[0][1])
    assert result["rtf"] == pytest.approx(result["work_seconds"] / result["audio_seconds"])
    assert result["times_real_time"] == pytest.approx(1 / result["rtf"])
    expected = {"device": "cpu", "isa": "generic", "precision": "fp32", "threads": 1, "sample_rate": 22050}
    assert expected.items() <= result.items()


@pytest.mark.parametrize("config", [SMALL, replace(unconditional_config(), classes=NAMES, clip_samples=512)])
def test_a_checkpoint_as_json(workspace: Path, run: Run, config: Config) -> None:
    path = save_network(Path("a.safetensors"), config)
    status, out, err = run("info", path, *EXECUTION, "--json")
    result: dict[str, Any] = json.loads(out)
    assert (status, err, out.count("\n")) == (0, "", 1) and list(result) == INFO_KEYS
    assert (
        result["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest() and result["bytes"] == os.stat(path).st_size
    )
    assert result["mel"] == ({"bands": 80, "kind": "lmnt", "hop": 256} if config.n_mels else None)
    assert result["classes"] == list(config.classes) and result["guidance"] is None
    assert result["temperature"] == (None if config.n_mels else 1.0)
    assert result["clip_samples"] == (config.clip_samples or None)
    assert result["network"]["channels"] == 16 and result["training_schedule"] == list(config.train_schedule)
    assert result["choice"] == {"device": "cpu", "index": 0, "isa": "generic", "precision": "fp32"}
    text = run("info", path, *EXECUTION)[1]
    assert all(f"  {reason}\n" in text for reason in result["reasons"])
    assert f"{result['network']['parameters']:,} parameters" in text
    assert len(result["tiers"]) == text.count("\n  tier ")


def test_an_error_leaves_stdout_empty(networks: Path, run: Run) -> None:
    assert "absent.npy" in error_of(run, "vocode", "absent.npy", "-o", "out.wav", "--json")
    assert "CKPT" in error_of(run, "info", "absent", "--json")
    error = error_of(run, "vocode", "mel.npy", "-o", "-", "--json", "--model", "small.safetensors")
    assert error == "--json: expected a file as OUT.wav, got -; stdout has the audio"


@pytest.mark.parametrize("name", AUDIO)
def test_quiet_prints_nothing(networks: Path, run: Run, name: str) -> None:
    assert run(*command_of(name), "--quiet") == (0, "", "")
    assert Path("out").is_dir() or Path("out.wav").is_file()


def test_quiet_in_the_other_commands(workspace: Path, run: Run) -> None:
    for option in ("-q", "--quiet"):
        assert run("mel", "in.wav", "-o", "a.npy", option) == (0, "", "")
        assert run("convert", "small.safetensors", "-o", "a.safetensors", option) == (0, "", "")
        assert run("vocode", "a.npy", "-o", "-", "--model", "small.safetensors", option)[2] == ""


def stereo(folder: Path) -> None:
    """Write a recording in two channels."""
    samples = np.zeros((600, 2), "<i2")
    head = (
        b"WAVEfmt " + bytes([16, 0, 0, 0, 1, 0, 2, 0]) + (22050).to_bytes(4, "little") + (88200).to_bytes(4, "little")
    )
    body = head + bytes([4, 0, 16, 0]) + b"data" + samples.nbytes.to_bytes(4, "little") + samples.tobytes()
    (folder / "stereo.wav").write_bytes(b"RIFF" + len(body).to_bytes(4, "little") + body)


def test_quiet_omits_notices_and_keeps_warnings_and_errors(workspace: Path, run: Run) -> None:
    stereo(workspace)
    mixed = "engine: stereo.wav: mixed 2 channels into one\n"
    assert run("mel", "stereo.wav", "-o", "a.npy")[2] == mixed
    assert run("mel", "stereo.wav", "-o", "a.npy", "--quiet")[2] == ""
    save_network(Path("tacotron.safetensors"), replace(SMALL, mel_kind="tacotron"))
    status, out, err = run("vocode", "mel.npy", "-o", "out.wav", "--model", "tacotron.safetensors", "--quiet")
    assert (status, out) == (0, "") and err.startswith("engine: warning: mel.npy: ")
    assert run("mel", "absent.wav", "-o", "a.npy", "--quiet")[2].startswith("engine: error: ")


def test_json_has_its_object_in_spite_of_quiet(networks: Path, run: Run) -> None:
    assert json.loads(run(*command_of("vocode"), "--quiet", "--json")[1])["files"] == ["out.wav"]


def test_verbose_shows_the_log_of_the_library(workspace: Path, run: Run) -> None:
    explanation = engine.load("small.safetensors", device="cpu", isa="generic", threads=1).explain().splitlines()
    status, out, err = run(*command_of("vocode"), "-v")
    assert status == 0 and out.startswith("wrote out.wav\n")
    assert err.splitlines() == [f"engine: {line}" for line in explanation]
    details = run(*command_of("vocode"), "-vv")[2].splitlines()
    assert "engine: small.safetensors: a checkpoint of the family lmnt" in details[0] and len(details) > len(
        explanation
    )
    assert run(*command_of("vocode"))[2] == ""
    assert "not allowed with" in error_of(run, *command_of("vocode"), "-v", "--quiet")


def test_the_loggers_are_as_before(workspace: Path, run: Run) -> None:
    before = [(logger.level, list(logger.handlers)) for logger in (LIBRARY, NOTICES)]
    run("info", "small.safetensors", "-vv")
    run("info", "absent", "-v")
    assert [(logger.level, list(logger.handlers)) for logger in (LIBRARY, NOTICES)] == before


def test_warnings_that_the_library_logs_are_named(workspace: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def mel(*_: object, **__: object) -> None:
        logging.getLogger("engine.audio").warning("odd %s", "sound")
        raise engine.InputError("no")

    monkeypatch.setattr(engine, "mel", mel)
    assert run("mel", "in.wav", "-o", "a.npy", "-q")[2] == "engine: warning: odd sound\nengine: error: no\n"


@pytest.mark.parametrize(("option", "shown"), [((), True), (("-q",), False), (("-v",), False)])
def test_the_stream_of_the_progress_bar(option: tuple[str, ...], shown: bool) -> None:
    arguments = build_parser().parse_args(["vocode", "a.npy", "-o", "a.wav", *option])
    assert progress_stream(arguments) is (sys.stderr if shown else None)


@pytest.mark.parametrize("name", ["vocode", "denoise"])
def test_a_report_has_this_form(networks: Path, run: Run, name: str) -> None:
    out = run(*command_of(name))[1].splitlines()
    assert out[0] == "wrote out.wav" and re.fullmatch(REPORT, out[1])
