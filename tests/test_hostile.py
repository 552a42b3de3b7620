"""Hostile files are refused with one message each, in bounded time and memory, and never executed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from engine.checkpoint.load import load_checkpoint, save_checkpoint
from engine.cli.main import main as engine_command
from tests.support import hostile_archives, hostile_headers  # noqa: F401 - they add cases
from tests.support.hostile import CASES, CONFIG_JSON, CaseFiles, sound_files
from tests.support.hostile_inert import INERT
from tests.support.hostile_watch import MEMORY_LIMIT, SECONDS_LIMIT, checksum
from tests.support.paths import ROOT

pytest.importorskip("torch")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the whole corpus, each case into a folder of its own."""
    folder = tmp_path_factory.mktemp("hostile")
    sound = sound_files(folder)
    cases: dict[str, list[str]] = {"sound": [], "hostile": [], "inert": []}
    for name, content in sound.items():
        parent = folder / "sound_files" / name
        parent.mkdir(parents=True)
        (parent / name).write_bytes(content)
        if name in CONFIG_JSON:
            (parent / "config.json").write_text(CONFIG_JSON[name])
        cases["sound"].append(str(parent / name))
    for kind, makes in (("hostile", CASES), ("inert", INERT)):
        for name, make in makes.items():
            (folder / name).mkdir()
            files = CaseFiles(folder / name, sound)
            make(files)
            cases[kind].append(str(files.path))
    (folder / "cases.json").write_text(json.dumps(cases))
    return folder


@pytest.fixture(scope="module")
def results(folder: Path) -> dict[str, dict[str, Any]]:
    """Run a watched process that tries to load every case; return its report by case."""
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("measuring memory needs Linux's /proc")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tests.support.hostile_watch", str(folder)]
    process = subprocess.run(command, capture_output=True, text=True, timeout=600, env=environment, check=False)
    lines = [json.loads(line) for line in process.stdout.splitlines()]
    assert process.returncode == 0, f"{lines[-1:]} {process.stderr[-2000:]}"
    assert process.stderr == ""
    return {Path(line["path"]).parent.name: line for line in lines if "path" in line}


def test_corpus_has_at_least_100_cases() -> None:
    assert len(CASES) >= 100


@pytest.mark.parametrize("name", CASES)
def test_hostile_file_is_refused(folder: Path, results: dict[str, dict[str, Any]], name: str) -> None:
    result = results[name]
    assert result["error"], "it was loaded"
    assert result["expected"], f"{result['type']}: {result['error']}"
    message = result["error"].replace(str(folder), "")
    assert message.isprintable() and 20 < len(message) < 400 and str(folder) in result["error"]
    assert_bounded(folder, result, name)


@pytest.mark.parametrize("name", INERT)
def test_inert_file_is_loaded_and_runs_nothing(folder: Path, results: dict[str, dict[str, Any]], name: str) -> None:
    """What a network does not use is neither an error nor executed, however it is made."""
    result = results[name]
    assert result["error"] is None, result["error"]
    assert result["checksum"] == checksum(load_checkpoint(folder / "sound_files" / "pt" / "pt"))
    assert_bounded(folder, result, name)


def assert_bounded(folder: Path, result: dict[str, Any], name: str) -> None:
    """Check that nothing was tried, and that memory and time were bounded."""
    path = folder / name / "checkpoint"
    assert result["attempts"] == []
    assert not (folder / name / "canary").exists()
    size = path.stat().st_size if path.is_file() else 0
    assert result["memory"] <= size + MEMORY_LIMIT
    assert result["seconds"] < SECONDS_LIMIT


def test_unmodified_files_of_the_corpus_load(folder: Path) -> None:
    for path in json.loads((folder / "cases.json").read_text())["sound"]:
        assert load_checkpoint(path).config.residual_channels == 16


def test_watch_detects_a_loader_that_unpickles(tmp_path: Path) -> None:
    """Check that the canary, the audit hook and the memory limit each detect it."""
    (tmp_path / "case").mkdir()
    path, canary = tmp_path / "case" / "checkpoint", tmp_path / "case" / "canary"
    path.write_bytes(b"cposix\nmkdir\n(S'%s'\ntR." % bytes(canary))
    (tmp_path / "cases.json").write_text(json.dumps({"sound": [], "hostile": [str(path)]}))
    loader = (
        "import pickle, sys, pathlib; from tests.support import hostile_watch;"
        "hostile_watch.checkpoint.load_checkpoint = lambda p: (b'x' * (200 << 20), pickle.load(open(p, 'rb')));"
        "hostile_watch.main(pathlib.Path(sys.argv[1]))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", loader, str(tmp_path)]
    process = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    result = json.loads(process.stdout.splitlines()[-1])
    assert canary.is_dir() and result["error"] is None
    assert any("os.mkdir" in attempt for attempt in result["attempts"])
    assert any("pickle.find_class" in attempt for attempt in result["attempts"])
    assert result["memory"] > MEMORY_LIMIT


# Output paths


def run(*arguments: object) -> int:
    return engine_command([str(argument) for argument in arguments])


@pytest.fixture
def source(folder: Path, tmp_path: Path) -> Path:
    source = tmp_path / "weights.pt"
    source.write_bytes((folder / "sound_files" / "pt" / "pt").read_bytes())
    return source


def test_output_replaces_a_link_without_following_it(source: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    precious = tmp_path / "elsewhere" / "precious"
    precious.write_text("precious")
    for target in (precious, tmp_path / "elsewhere" / "absent"):
        out = tmp_path / "out.safetensors"
        out.symlink_to(target)
        assert run("convert", source, "-o", out) == 0
        assert out.is_file() and not out.is_symlink()
        assert os.listdir(tmp_path / "elsewhere") == ["precious"] and precious.read_text() == "precious"
        out.unlink()


def test_output_never_replaces_its_source(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_checkpoint(tmp_path / "x.safetensors", load_checkpoint(source))
    original = (tmp_path / "x.safetensors").read_bytes()
    (tmp_path / "soft.safetensors").symlink_to("x.safetensors")
    os.link(tmp_path / "x.safetensors", tmp_path / "hard.safetensors")
    for out in ("x.safetensors", "soft.safetensors", "hard.safetensors"):
        assert run("convert", tmp_path / "x.safetensors", "-o", tmp_path / out) == 2
        assert "it is the input" in capsys.readouterr().err
    assert (tmp_path / "x.safetensors").read_bytes() == original


@pytest.mark.parametrize("kind", ["directory", "pipe", "device", "link to a directory", "loop", "no folder", "suffix"])
def test_impossible_output_path_is_refused(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    out = tmp_path / "out.safetensors"
    if kind == "directory":
        out.mkdir()
    elif kind == "pipe":
        os.mkfifo(out)
    elif kind == "device":
        out.symlink_to("/dev/null")
    elif kind == "link to a directory":
        out.symlink_to(tmp_path)
    elif kind == "loop":
        out.symlink_to(out.name)
    elif kind == "no folder":
        out = tmp_path / "absent" / "out.safetensors"
    else:
        out = tmp_path / "out.pt"
    before = sorted(os.listdir(tmp_path))
    status = run("convert", source, "-o", out)
    error = capsys.readouterr().err
    assert (status, error.count("\n")) == ((0, 0) if kind == "loop" else (2, 1))
    assert sorted(os.listdir(tmp_path)) == before
    assert Path("/dev/null").is_char_device()


def test_refused_file_leaves_no_output(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("os_system", "zip_bomb", "nan_in_safetensors", "header_ten_gigabytes"):
        assert run("convert", folder / name / "checkpoint", "-o", tmp_path / "out.safetensors") == 2
        captured = capsys.readouterr()
        assert captured.out == "" and captured.err.count("\n") == 1
        assert os.listdir(tmp_path) == []
