"""`engine doctor`."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path

import pytest

from engine.checks import installation
from engine.cli import doctor
from engine.kernels import device as gpu_device
from engine.kernels.cuda import build as nvrtc
from engine.voice.api import bundled_voice
from tests.support.commands import Run, replace_gpu
from tests.support.paths import ROOT

OBSTACLE = gpu_device.obstacle  # a fixture replaces it


def test_available_and_missing_parts(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_device, "obstacle", lambda index=0: "no NVIDIA driver was found")
    status, out, err = run("doctor")
    assert (status, err) == (0, "")
    assert re.search(r"^ok  cpu generic +fp32, int8$", out, re.MULTILINE)
    assert re.search(r"^--  gpu cuda +no NVIDIA driver was found$", out, re.MULTILINE)
    assert "device cpu: no GPU: no NVIDIA driver was found" in out
    assert f"precision {bundled_voice().choice.precision}:" in out
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert run("doctor")[1].endswith("\n  threads 1: OMP_NUM_THREADS\n")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(installation, "source_folder", lambda: Path("source"))
    line = r"^--  package soxr +for other sample rates: pip install -e '\.\[audio\]' in the source folder$"
    assert re.search(line, run("doctor")[1], re.M)


def test_the_remedies_fit_an_installed_wheel(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installation, "source_folder", lambda: None)
    monkeypatch.setattr(gpu_device, "_driver_found", lambda: True)
    monkeypatch.setattr(gpu_device, "obstacle", OBSTACLE)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    out = run("doctor")[1]
    assert re.search(r"^--  package soxr +for other sample rates: pip install 'diffwave-engine\[audio\]'$", out, re.M)
    assert re.search(r"^--  gpu cuda +torch is not installed: pip install 'diffwave-engine\[gpu\]'$", out, re.M)
    assert "source folder" not in out and "pip install -e" not in out


def test_every_extra_of_the_installation_page_is_listed(run: Run) -> None:
    page = (ROOT / "docs" / "installation.md").read_text()
    extras = set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)) - {"text"}  # of an example
    assert len(extras) >= 7 and {extra for _, extra, _ in doctor._EXTRAS} == extras
    project = (ROOT / "pyproject.toml").read_text()
    for name, extra, _ in doctor._EXTRAS:
        [requirements] = re.findall(rf"^{extra} = \[(.*?)\]\n", project, re.MULTILINE | re.DOTALL)
        assert f'"{doctor._DISTRIBUTIONS.get(name, name).lower()}' in requirements, (name, extra)
    out = run("doctor")[1]
    for name, _, purpose in doctor._EXTRAS:
        assert re.search(rf"^(ok|--)  package {name} +.*for {re.escape(purpose)}", out, re.MULTILINE)
    assert not re.search("unknown version", out)


def test_the_kernels_of_a_gpu(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are listed without compiling anything."""
    monkeypatch.setattr(nvrtc.CudaKernel, "compile", compile_nothing)
    monkeypatch.setattr(gpu_device, "obstacle", lambda index=0: "no NVIDIA driver was found")
    assert not re.search("gpu (mma|sm_90a)", run("doctor")[1])
    replace_gpu(monkeypatch)
    out = run("doctor")[1]
    kernel = "--isa mma: residual layers in groups, in CUDA; compiled when a network is loaded"
    assert re.search(rf"^ok  gpu mma +{kernel}$", out, re.MULTILINE)
    assert re.search(r"^--  gpu sm_90a +needs compute capability 9\.0, this GPU is sm_80$", out, re.MULTILINE)
    parts = {part["name"]: part for part in json.loads(run("doctor", "--json")[1])["parts"]}
    assert parts["mma"] == {"kind": "gpu", "name": "mma", "available": True, "text": kernel}
    replace_gpu(monkeypatch, ("sm_90",))
    assert re.search(r"^ok  gpu sm_90a +--isa sm_90a: ", run("doctor")[1], re.MULTILINE)
    monkeypatch.setattr(nvrtc, "knows", lambda capability: False)
    needs = r"needs an NVRTC that compiles for sm_90, this one is 1\.2"
    assert re.search(rf"^--  gpu sm_90a +{needs}$", run("doctor")[1], re.MULTILINE)
    monkeypatch.setattr(nvrtc, "obstacle", lambda: "NVRTC cannot be used (gone): pip install it")
    out = run("doctor")[1]
    assert len(re.findall(r"^--  gpu \S+ +needs NVRTC: NVRTC cannot be used \(gone\): pip install it$", out, re.M)) == 2


def compile_nothing(kernel: nvrtc.CudaKernel, capability: int) -> None:
    raise AssertionError("a kernel was compiled")


def test_the_result_as_json(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_device, "obstacle", lambda index=0: "no NVIDIA driver was found")
    status, out, err = run("doctor", "--json")
    result = json.loads(out)
    assert (status, err, out.count("\n")) == (0, "", 1)
    assert list(result) == ["engine", "system", "python", "parts", "choice", "threads", "reasons"]
    parts = {(part["kind"], part["name"]): part for part in result["parts"]}
    assert parts["cpu", "generic"] == {"kind": "cpu", "name": "generic", "available": True, "text": "fp32, int8"}
    assert parts["gpu", "cuda"]["text"] == "no NVIDIA driver was found" and not parts["gpu", "cuda"]["available"]
    choice = bundled_voice().choice
    expected = {"device": "cpu", "index": 0, "isa": choice.isa, "precision": choice.precision}
    assert result["choice"] == expected and result["threads"] == bundled_voice().threads
    assert all(f"  {reason}" in run("doctor")[1].splitlines() for reason in result["reasons"])
