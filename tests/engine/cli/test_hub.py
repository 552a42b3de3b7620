"""Networks by address on the command line: every command takes one, and resolves it once."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.support.commands import FRAMES, MEL, SMALL, Run, error_of, save_network, unconditional_config
from tests.support.hub import Hub, Repository, running_hub, use_hub

ADDRESS = "hf://owner/voice"
OTHER = "hf://owner/sounds@v2/sounds.safetensors"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    monkeypatch.chdir(tmp_path)
    np.save("mel.npy", MEL)
    Path("mels").mkdir()
    np.save("mels/a.npy", MEL)
    voice = save_network(tmp_path / "v.safetensors", SMALL).read_bytes()
    sounds = save_network(tmp_path / "s.safetensors", unconditional_config()).read_bytes()
    with running_hub() as hub:
        use_hub(monkeypatch, hub.url, tmp_path / "cache")
        hub.repositories["owner/voice"] = Repository({"model.safetensors": voice, "README.md": b"#"})
        hub.repositories["owner/sounds"] = Repository({"sounds.safetensors": sounds, "a.pt": b""}, ("main", "v2"))
        yield hub


@pytest.mark.parametrize(
    "arguments",
    [
        ("info", ADDRESS),
        ("info", OTHER, "--json"),
        ("vocode", "mel.npy", "-o", "a.wav", "--model", ADDRESS),
        ("vocode", "mels", "-o", "out", "--model", ADDRESS),
        ("generate", "-o", "a.wav", "--model", OTHER, "--seconds", "0.01", "--steps", "fast"),
        ("convert", ADDRESS, "-o", "b.safetensors"),
        ("mel", "silence.wav", "-o", "b.npy", "--model", ADDRESS),
    ],
    ids=lambda arguments: " ".join(arguments[:2]),
)
def test_commands(hub: Hub, run: Run, arguments: tuple[str, ...]) -> None:
    if arguments[0] == "mel":
        from engine.audio.wav import write_wav

        write_wav("silence.wav", np.zeros(256 * FRAMES, np.float32), 22050)
    status, out, err = run(*arguments)
    assert status == 0, err
    listed = sum("/api/models/" in request for request in hub.requests)
    assert len(hub.downloads()) == 1 and listed == (ADDRESS in arguments)
    if arguments[0] == "mel":
        assert f"as {ADDRESS} expects" in out


def test_errors(hub: Hub, run: Run) -> None:
    hub.repositories["owner/voice"] = Repository({"a.pt": b"x", "b.pt": b"x"})
    message = error_of(run, "vocode", "mel.npy", "-o", "a.wav", "--model", ADDRESS)
    assert message.startswith(f"{ADDRESS}: expected a repository with one checkpoint, got 'a.pt', 'b.pt'; pass one of")
    assert "expected an address" in error_of(run, "info", "hf://owner")


def test_process(hub: Hub, tmp_path: Path) -> None:
    """A process that reads its environment: its hub, its cache, and no second request for a cached file offline."""
    environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1"}
    command = [sys.executable, "-m", "engine", "vocode", "mel.npy", "-o", "a.wav", "--model", ADDRESS]
    for offline in ("0", "1"):
        done = subprocess.run(
            command, env={**environment, "HF_HUB_OFFLINE": offline}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert "the cached files" not in done.stderr  # offline on purpose
    assert hub.downloads() == ["model.safetensors"]
    assert list((tmp_path / "home" / "hub").glob("models--owner--voice/snapshots/*/model.safetensors"))
