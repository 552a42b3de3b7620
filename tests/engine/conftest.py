"""One command line, and a directory to run it in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engine.audio.wav import write_wav
from engine.cli import main as cli
from engine.kernels import cuda
from tests.support.commands import MEL, SMALL, Run, saved


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a GPU does is asked in tests/gpu; here "auto" is the CPU on every machine."""
    monkeypatch.setattr(cuda, "obstacle", lambda index=0: "not in this test")


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """One command line in this process: status, stdout, stderr."""

    def call(*arguments: object) -> tuple[int, str, str]:
        status = cli.main([str(a) for a in arguments])
        return status, *capfd.readouterr()

    return call


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory with a mel, a recording and some checkpoints, which an error leaves as it is."""
    np.save(tmp_path / "mel.npy", MEL)
    write_wav(tmp_path / "in.wav", np.sin(np.arange(4000) / 9) * 0.3, SMALL.sample_rate)
    saved(tmp_path / "small.safetensors", SMALL)
    monkeypatch.chdir(tmp_path)
    return tmp_path
