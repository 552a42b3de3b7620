"""Fixtures: a command line in this process, and a directory to run it in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engine.audio.wav import write_wav
from engine.cli.main import main
from engine.kernels import device as gpu_device
from tests.support.commands import MEL, SMALL, Run, save_network


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make "auto" the CPU on every machine; tests/gpu tests the GPU."""
    monkeypatch.setattr(gpu_device, "obstacle", lambda index=0: "not in this test")


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """Return a function that runs one command line in this process: status, stdout, stderr."""

    def call(*arguments: object) -> tuple[int, str, str]:
        status = main([str(argument) for argument in arguments])
        return status, *capfd.readouterr()

    return call


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Change to a directory that holds a mel, a recording and a checkpoint."""
    np.save(tmp_path / "mel.npy", MEL)
    write_wav(tmp_path / "in.wav", np.sin(np.arange(4000) / 9) * 0.3, SMALL.sample_rate)
    save_network(tmp_path / "small.safetensors", SMALL)
    monkeypatch.chdir(tmp_path)
    return tmp_path
