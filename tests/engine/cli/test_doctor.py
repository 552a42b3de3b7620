"""`engine doctor`."""

from __future__ import annotations

import importlib.util
import re

import pytest

from engine.api import bundled_voice
from engine.kernels import device as gpu_device
from tests.support.commands import Run


def test_available_and_missing_parts(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_device, "obstacle", lambda index=0: "no NVIDIA driver was found")
    status, out, err = run("doctor")
    assert (status, err) == (0, "")
    assert re.search(r"^ok  cpu generic +fp32, int8$", out, re.MULTILINE)
    assert re.search(r"^--  gpu cuda +no NVIDIA driver was found$", out, re.MULTILINE)
    assert "device cpu: no GPU: no NVIDIA driver was found" in out
    assert f"precision {bundled_voice().choice.precision}:" in out
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    line = r"^--  package soxr +for other sample rates: pip install -e '\.\[audio\]' in the source folder$"
    assert re.search(line, run("doctor")[1], re.M)
