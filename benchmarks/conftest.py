"""The networks that are timed, and the report at the end of `pytest --benchmark`."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import engine
from benchmarks import generating, peers, report, streaming
from benchmarks.gpu import report as gpu_report
from engine.checkpoint.load import Checkpoint, load_checkpoint, save_checkpoint
from engine.cli.bench import curves
from engine.cli.bench.machine import load_average
from engine.config import BASE
from engine.voice import BUNDLED
from tests.support.networks import random_network

KEPT = pytest.StashKey()


def pytest_configure(config):
    config.stash[KEPT] = {
        "load": load_average(),
        "calls": [],
        "duels": [],
        "streams": [],
        "generations": [],
        "curves": {},
        "gpu": gpu_report.Rows(),
    }


@pytest.fixture(scope="session")
def checkpoint():
    return load_checkpoint(BUNDLED) if BUNDLED.is_file() else Checkpoint(BASE, random_network(BASE, 1))


@pytest.fixture(scope="session")
def exported(checkpoint):
    """The network as the peers read it."""
    demo = BUNDLED.with_name("demo_mel.npy")
    return peers.Exported(checkpoint, np.load(demo) if demo.is_file() else np.zeros((80, 172), np.float32))


@pytest.fixture(scope="session")
def voice_of(checkpoint, tmp_path_factory):
    """A function: precision -> voice, on all threads of the CPU; raises UnavailableError."""
    path = BUNDLED
    if not path.is_file():
        path = tmp_path_factory.mktemp("random") / "base.safetensors"
        save_checkpoint(path, checkpoint)
    return cache(lambda precision: engine.load(path, device="cpu", precision=precision))


@pytest.fixture
def gpu_rows(request):
    """Where the report finds the GPU's figures."""
    return request.config.stash[KEPT]["gpu"]


@pytest.fixture
def kept(request, voice_of):
    """Where the report finds its figures."""
    found = request.config.stash[KEPT]
    voice = voice_of("fp32")
    name = "the bundled voice" if BUNDLED.is_file() else "random weights"
    size = f"C={voice.config.residual_channels} N={voice.config.residual_layers}"
    found["setting"] = {"network": f"BASE ({size}), {name}", "steps": 6, "threads": voice.threads}
    return found


@pytest.hookimpl(trylast=True)  # after the tables of pytest-benchmark
def pytest_terminal_summary(terminalreporter, exitstatus, config):
    found = config.stash.get(KEPT, None)
    if found is None or not config.getoption("--benchmark"):
        return
    if found["gpu"]:
        terminalreporter.section("real-time factors on a GPU, measured")
        for line in gpu_report.lines(found["gpu"]):
            terminalreporter.line(line)
    if not any(found[part] for part in ("calls", "duels", "streams", "generations", "curves", "gpu")):
        return
    parts = {name: found[name] for name in ("calls", "duels", "streams", "generations")}
    parts |= {"gpu": found["gpu"], "gpu_peaks": found["gpu"].peaks, "gpu_duels": found["gpu"].duels}
    results = {**report.environment(found["load"]), **found.get("setting", {}), **parts, **found["curves"]}
    if found["calls"] or found["duels"]:
        terminalreporter.section("real-time factors")
        for line in report.section(results):
            terminalreporter.line(line)
    if found["streams"]:
        terminalreporter.section("streams")
        for line in streaming.lines(found["streams"]):
            terminalreporter.line(line)
    if found["generations"]:
        terminalreporter.section("clips from nothing")
        for line in generating.lines(found["generations"]):
            terminalreporter.line(line)
    if found["curves"]:
        terminalreporter.section("as work grows")
        for line in curves.lines(results):
            terminalreporter.line(line)
    file = config.getoption("--results")
    if file and exitstatus == 0:
        Path(file).write_text(json.dumps(results, indent=1) + "\n")
        terminalreporter.line(f"written to {file}")
    elif file:
        terminalreporter.line(f"not written to {file}: something failed", red=True)
