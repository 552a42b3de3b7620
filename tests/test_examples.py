"""Every program in examples/ runs, as a person would run it."""

from __future__ import annotations

import argparse
import inspect
import json
import os
import re
import runpy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from unittest.mock import MagicMock

import numpy as np
import pytest

import engine
from engine.audio.wav import read_wav, write_wav
from engine.bulk import vocode_files as api_of_many_files
from engine.checkpoint import bundled
from engine.checkpoint.load import Checkpoint, save_checkpoint
from engine.cli.main import build_parser
from engine.config import BASE, SC09
from engine.voice import api
from tests.support.layouts import random_checkpoint
from tests.support.networks import random_network
from tests.support.paths import ROOT

EXAMPLES = ROOT / "examples"
NOTEBOOK = EXAMPLES / "tour.ipynb"
FRAMES = 145  # of the demo mel's stand-in; the notebook takes frames up to 140
SPEAKERS = ("jackson", "nicolas", "theo")
DIGITS = replace(
    SC09,
    residual_channels=16,
    residual_layers=4,
    clip_samples=800,
    guidance=2.0,
    classes=tuple(f"{digit} {speaker}" for digit in range(10) for speaker in SPEAKERS),
)


@pytest.fixture
def assets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Path:
    """Provide a working directory with small stand-ins for the bundled networks and the demo mel."""
    voice = replace(BASE, residual_channels=16, residual_layers=4)
    for name, config in {"voice": voice, "digits": DIGITS}.items():
        save_checkpoint(tmp_path / f"{name}.safetensors", Checkpoint(config, random_network(config, 0)))
    np.save(tmp_path / "demo_mel.npy", np.load(bundled.ASSETS / "demo_mel.npy")[:, :FRAMES])
    monkeypatch.setattr(bundled, "ASSETS", tmp_path)
    monkeypatch.setattr(bundled, "BUNDLED", tmp_path / "voice.safetensors")
    monkeypatch.chdir(tmp_path)
    api.bundled_voice.cache_clear()
    request.addfinalizer(api.bundled_voice.cache_clear)
    return tmp_path


def run(monkeypatch: pytest.MonkeyPatch, name: str, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")


def test_vocode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "mel.npy", np.load(bundled.ASSETS / "demo_mel.npy")[:, :20])
    run(monkeypatch, "vocode.py", str(tmp_path / "mel.npy"), str(tmp_path / "speech.wav"))
    audio, rate = read_wav(tmp_path / "speech.wav")
    assert audio.shape == (20 * 256,) and rate == 22050 and np.std(audio) > 0.001
    assert capsys.readouterr().out.endswith("speech.wav: 0.23 s at 22050 Hz\n")


def test_vocode_needs_no_arguments(assets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(monkeypatch, "vocode.py")
    assert len(read_wav(assets / "speech.wav")[0]) == FRAMES * 256


def test_own_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = random_checkpoint(tmp_path, "lmnt", n_mels=80, upsample_strides=(16, 16)).path
    write_wav(tmp_path / "in.wav", 0.1 * np.random.default_rng(0).standard_normal(5000).astype(np.float32), 22050)
    run(monkeypatch, "own_checkpoint.py", str(checkpoint), str(tmp_path / "in.wav"), str(tmp_path / "copy.wav"))
    assert len(read_wav(tmp_path / "copy.wav")[0]) == 20 * 256


def test_own_checkpoint_says_how_it_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match=r"usage: python examples/own_checkpoint.py CHECKPOINT"):
        run(monkeypatch, "own_checkpoint.py")


def test_stream_from_tts(
    assets: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    run(monkeypatch, "stream_from_tts.py", "speech.wav")
    audio, _ = read_wav(assets / "speech.wav")
    assert len(audio) == FRAMES * 256
    assert len(capfdbinary.readouterr().err.splitlines()) == -(-len(audio) // 2048)
    run(monkeypatch, "stream_from_tts.py", "-")
    samples = np.frombuffer(capfdbinary.readouterr().out, "<i2")
    np.testing.assert_array_equal(samples / np.float32(32768), audio)


def test_text_to_speech(
    assets: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    pytest.importorskip("espeakng_loader")
    run(monkeypatch, "text_to_speech.py", "Ja. Nein, nein, nein!", "-")
    both = np.frombuffer(capfdbinary.readouterr().out, "<i2") / np.float32(32768)
    run(monkeypatch, "text_to_speech.py", "Ja.", "one.wav")
    first, rate = read_wav(assets / "one.wav")
    assert rate == 22050 and 0.2 * rate < len(first) < len(both) / 2 and np.std(both) > 0.001
    with pytest.raises(SystemExit, match="espeak-ng has no language 'xx'"):
        run(monkeypatch, "text_to_speech.py", "Ja.", "other.wav", "xx")
    assert not (assets / "other.wav").exists()


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("vocode.py", ["none.npy"], "vocode: none.npy: cannot read it: No such file or directory"),
        ("vocode.py", ["empty.npy"], "vocode: empty.npy: expected a mel or a WAV file, got an empty file"),
        ("vocode.py", ["demo_mel.npy", "none/a.wav"], "vocode: path: 'none/a.wav': cannot write it: there is no dir"),
        ("vocode.py", ["demo_mel.npy", "a.wav", "more"], "usage: python examples/vocode.py "),
        ("own_checkpoint.py", ["none.pt", "a.wav", "b.wav"], "own_checkpoint: none.pt: "),
        ("own_checkpoint.py", ["voice.safetensors", "none.wav", "b.wav"], "own_checkpoint: path: 'none.wav': cannot"),
        ("digits.py", ["eleven"], "digits: label[0]: expected one of "),
        ("stream_from_tts.py", ["a.wav", "none.npy"], "stream_from_tts: none.npy: cannot read it: No such file"),
        ("stream_from_tts.py", ["none/a.wav"], "stream_from_tts: there is no directory 'none'"),
        ("stream_from_tts.py", ["a.mp3"], "stream_from_tts: path: 'a.mp3': expected a name that ends in .wav"),
        ("stream_from_tts.py", ["a.wav", "b", "c"], "usage: python examples/stream_from_tts.py "),
        ("inside_a_model.py", ["a.wav", "none.npy"], "inside_a_model: none.npy: cannot read it: No such file"),
        ("inside_a_model.py", ["a.wav", "b", "c"], "usage: python examples/inside_a_model.py "),
        ("many_files.py", ["none", "out"], "many_files: none: cannot read it: No such file"),
        ("many_files.py", ["none", "out", "two"], "usage: python examples/many_files.py "),
        ("text_to_speech.py", [""], "text_to_speech: TEXT: expected words, got ''"),
        ("text_to_speech.py", [" ... "], "text_to_speech: TEXT: expected words, got ' ... '"),
        ("text_to_speech.py", ["Ja.", "none/a.wav"], "text_to_speech: there is no directory 'none'"),
        ("text_to_speech.py", ["Ja.", "a.mp3"], "text_to_speech: path: 'a.mp3': expected a name that ends in .wav"),
        ("text_to_speech.py", ["Ja.", "a.wav", "de", "more"], "usage: python examples/text_to_speech.py "),
    ],
)
def test_mistakes_end_with_a_message(
    assets: Path, monkeypatch: pytest.MonkeyPatch, name: str, arguments: list[str], message: str
) -> None:
    (assets / "empty.npy").touch()
    with pytest.raises(SystemExit) as caught:
        run(monkeypatch, name, *arguments)
    assert str(caught.value.code).startswith(message), caught.value.code
    assert not list(assets.glob("*.wav")) and not list(assets.glob("*.mp3"))


def test_text_to_speech_without_espeak(assets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(SystemExit, match=r"text_to_speech: espeak-ng is missing; pip install espeakng-loader"):
        run(monkeypatch, "text_to_speech.py", "Ja.", "a.wav")
    loader = MagicMock()
    loader.load_library.return_value = None  # the library is damaged
    monkeypatch.setitem(sys.modules, "espeakng_loader", loader)
    with pytest.raises(SystemExit, match=r"text_to_speech: espeak-ng does not start"):
        run(monkeypatch, "text_to_speech.py", "Ja.", "a.wav")
    assert not (assets / "a.wav").exists()


def test_inside_a_model(assets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(assets / "mel.npy", np.load(assets / "demo_mel.npy")[:, :20])
    run(monkeypatch, "inside_a_model.py", "slower.wav", "mel.npy")
    assert len(read_wav(assets / "slower.wav")[0]) == 26 * 256


def test_digits(assets: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    run(monkeypatch, "digits.py", "7 theo", "2")
    first, second = capsys.readouterr().out.splitlines()
    assert first == "wrote digit-0.wav: 7 theo" and second.startswith("wrote digit-1.wav: 2 ")
    assert all(len(read_wav(assets / f"digit-{number}.wav")[0]) == 800 for number in (0, 1))


def test_gpu_batch(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        run(monkeypatch, "gpu_batch.py")
    except SystemExit as stop:
        assert str(stop.code).startswith("gpu_batch: this example needs an NVIDIA GPU: device: ")
    else:
        assert "x real time" in capsys.readouterr().out


def test_the_notebook_runs(assets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pyplot, display = MagicMock(), ModuleType("IPython.display")
    pyplot.subplots.return_value = MagicMock(), [MagicMock(), MagicMock()]
    display.Audio, display.display = MagicMock(), MagicMock()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "matplotlib", MagicMock(pyplot=pyplot))
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", pyplot)
    monkeypatch.setitem(sys.modules, "IPython", ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    scope: dict[str, object] = {"__name__": "__main__"}
    for number, cell in enumerate(json.loads(NOTEBOOK.read_text())["cells"]):
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), f"tour.ipynb, cell {number}", "exec"), scope)
    assert display.display.call_count == 7  # type: ignore[attr-defined]


def test_the_notebook_holds_no_outputs() -> None:
    cells = [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]
    assert len(cells) >= 5
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells)


def test_many_files(assets: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    (assets / "mels").mkdir()
    for number in range(2):
        np.save(assets / "mels" / f"{number}.npy", np.load(assets / "demo_mel.npy")[:, :8])
    (assets / "mels" / "bad.npy").write_bytes(b"noise")
    run(monkeypatch, "many_files.py", "mels", "out", "2")
    out, err = capfd.readouterr()
    assert out.startswith("2 files, 0.2 s of audio in ") and "\r3 of 3 files\n" in err and "bad: " in err
    with pytest.raises(SystemExit, match=r"usage: python examples/many_files.py IN OUT"):
        run(monkeypatch, "many_files.py")


def test_on_ray(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The job itself runs in tests/engine/bulk/test_ray_cluster.py, which needs a cluster."""
    vocode_files = MagicMock(return_value="2 files", spec=engine.vocode_files)
    monkeypatch.setattr(engine, "vocode_files", vocode_files)
    run(monkeypatch, "on_ray.py", "mels", "out", "local")
    assert capsys.readouterr().out == "2 files\n"
    inspect.signature(api_of_many_files).bind(*vocode_files.call_args.args, **vocode_files.call_args.kwargs)
    assert vocode_files.call_args.kwargs["ray"] == "local"


def arguments_of(command: list[str], folder: Path, **environment: str) -> argparse.Namespace:
    """Return the parsed arguments with which a shell command starts the engine."""
    program = folder / "engine"
    program.write_text("#!/bin/sh\nprintf '%s\\n' \"$@\"\n")
    program.chmod(0o755)
    environment["PATH"] = f"{folder}:{os.environ['PATH']}"
    lines = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.splitlines()
    return build_parser().parse_args(lines)


def test_slurm_array(tmp_path: Path) -> None:
    command = ["bash", str(EXAMPLES / "slurm_array.sh"), "mels", "speech"]
    variables = {"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "16", "SLURM_CPUS_PER_TASK": "8"}
    arguments = arguments_of(command, tmp_path, **variables)
    assert (arguments.shard, arguments.workers, arguments.output) == ((3, 16), 8, "speech")
    assert arguments.input == [Path("mels")]


def test_kubernetes_job(tmp_path: Path) -> None:
    text = (EXAMPLES / "kubernetes_job.yaml").read_text()
    (script,) = json.loads(re.findall(r"args: (.*)", text)[0])
    (count,) = re.findall(r"completions: (\d+)", text)
    arguments = arguments_of(["/bin/sh", "-c", script], tmp_path, JOB_COMPLETION_INDEX="15")
    assert arguments.shard == (int(count), int(count)) and arguments.output == "/data/speech"


def test_programs_are_short_and_listed() -> None:
    page = (EXAMPLES / "README.md").read_text()
    for path in [path for path in EXAMPLES.iterdir() if path.suffix in (".py", ".ipynb", ".sh", ".yaml")]:
        assert f"[{path.name}]({path.name})" in page
        assert path.suffix != ".py" or len(path.read_text().splitlines()) <= 65, path.name
