"""Names of bundled networks: precedence over files, missing networks."""

from __future__ import annotations

from pathlib import Path

import pytest

import engine
from engine import CheckpointError
from engine.checkpoint import bundled
from engine.checkpoint.bundled import BUNDLED, NAMES, path_of
from engine.voice import api


def test_names_select_files_of_the_package() -> None:
    assert path_of() == path_of("voice") == BUNDLED == Path(engine.__file__).parent / "assets" / "voice.safetensors"
    assert NAMES == ("voice", "digits", "digits-unconditional")


def test_name_takes_precedence_over_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("voice").write_bytes(b"something else")
    assert path_of("voice") == BUNDLED
    assert path_of("./voice") == Path("voice") and path_of(Path("voice")) == Path("voice")


def test_paths_are_returned_unchanged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine").write_bytes(b"")
    for name in ("mine", "a.pt", "folder/mine.pt", tmp_path / "x", Path("digits")):
        assert path_of(name) == Path(name)


def test_missing_bundled_network_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundled, "ASSETS", tmp_path)
    api.bundled_voice.cache_clear()  # other tests may have loaded it
    message = "model: this installation lacks the bundled network 'digits', expected .*digits.safetensors"
    with pytest.raises(CheckpointError, match=message):
        engine.load("digits")
    with pytest.raises(CheckpointError, match=message):
        engine.generate(n=1, label=3)


def test_unknown_bare_word_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    message = "model: expected a file or one of 'voice', 'digits', 'digits-unconditional', got 'digit'"
    with pytest.raises(CheckpointError, match=message):
        engine.load("digit")
