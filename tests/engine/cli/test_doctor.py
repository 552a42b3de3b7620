"""What `engine doctor` says, and what a device that is not there is answered."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from engine.api import bundled
from engine.kernels import cuda
from tests.support.commands import Run


def test_doctor_says_what_there_is_and_what_is_missing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "obstacle", lambda index=0: "no NVIDIA driver was found")
    status, out, err = run("doctor")
    assert (status, err) == (0, "")
    assert re.search(r"^ok  cpu generic +fp32, int8$", out, re.MULTILINE)
    assert re.search(r"^--  gpu cuda +no NVIDIA driver was found$", out, re.MULTILINE)
    assert "device cpu: no GPU: no NVIDIA driver was found" in out
    assert f"precision {bundled().choice.precision}:" in out
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    wanted = r"^--  package soxr +for other sample rates: pip install -e '\.\[audio\]' in the source folder$"
    assert re.search(wanted, run("doctor")[1], re.M)


def test_a_device_that_is_not_there_is_one_line(run: Run, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "obstacle", lambda index=0: "no NVIDIA driver was found")
    status, _, err = run("vocode", "mel.npy", "-o", "a.wav", "--device", "cuda")
    assert status == 2 and not (here / "a.wav").exists()
    assert err == "engine: error: device: 'cuda' cannot be used: no NVIDIA driver was found; device='cpu' can\n"
