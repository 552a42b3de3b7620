"""The networks that are timed, and the report at the end of `pytest --benchmark`."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import engine
from benchmarks import report
from benchmarks.cpu import baselines, few_steps, generation, streaming
from benchmarks.gpu import report as gpu_report
from benchmarks.gpu.timing import Rows
from engine.checkpoint.bundled import BUNDLED
from engine.checkpoint.load import Checkpoint, load_checkpoint, save_checkpoint
from engine.cli.bench import curves
from engine.cli.bench.machine import load_average
from engine.config import BASE
from tests.support.networks import random_network

RESULTS: pytest.StashKey[dict[str, Any]] = pytest.StashKey()


def pytest_configure(config: pytest.Config) -> None:
    """Begin the results of this run."""
    config.stash[RESULTS] = {
        "load": load_average(),
        "calls": [],
        "duels": [],
        "few_steps": [],
        "streams": [],
        "generations": [],
        "curves": {},
        "gpu": Rows(),
    }


@pytest.fixture(scope="session")
def checkpoint() -> Checkpoint:
    """Return the bundled voice, or random weights of its size."""
    return load_checkpoint(BUNDLED) if BUNDLED.is_file() else Checkpoint(BASE, random_network(BASE, 1))


@pytest.fixture(scope="session")
def exported(checkpoint: Checkpoint) -> baselines.Exported:
    """Return the network in the baselines' formats."""
    demo = BUNDLED.with_name("demo_mel.npy")
    return baselines.Exported(checkpoint, np.load(demo) if demo.is_file() else np.zeros((80, 172), np.float32))


@pytest.fixture(scope="session")
def voice_of(checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], engine.Voice]:
    """Return a function from precision to voice, on all threads of the CPU; it raises UnavailableError."""
    path = BUNDLED
    if not path.is_file():
        path = tmp_path_factory.mktemp("random") / "base.safetensors"
        save_checkpoint(path, checkpoint)
    return cache(lambda precision: engine.load(path, device="cpu", precision=precision))


@pytest.fixture
def gpu_rows(request: pytest.FixtureRequest) -> Rows:
    """Return the GPU's part of the results."""
    rows: Rows = request.config.stash[RESULTS]["gpu"]
    return rows


@pytest.fixture
def results(request: pytest.FixtureRequest, voice_of: Callable[[str], engine.Voice]) -> dict[str, Any]:
    """Return the results of this run, to which a benchmark adds its rows."""
    collected = request.config.stash[RESULTS]
    voice = voice_of("fp32")
    name = "the bundled voice" if BUNDLED.is_file() else "random weights"
    size = f"C={voice.config.residual_channels} N={voice.config.residual_layers}"
    collected["setting"] = {"network": f"BASE ({size}), {name}", "steps": 6, "threads": voice.threads}
    return collected


@pytest.hookimpl(trylast=True)  # after the tables of pytest-benchmark
def pytest_terminal_summary(terminalreporter: Any, exitstatus: int, config: pytest.Config) -> None:
    """Print the report, and write the results if nothing failed."""
    collected = config.stash.get(RESULTS, None)
    if collected is None or not config.getoption("--benchmark"):
        return
    if collected["gpu"]:
        terminalreporter.section("speed on a GPU")
        for line in gpu_report.lines(collected["gpu"]):
            terminalreporter.line(line)
    if not any(collected[part] for part in ("calls", "duels", "few_steps", "streams", "generations", "curves", "gpu")):
        return
    parts = {name: collected[name] for name in ("calls", "duels", "few_steps", "streams", "generations")}
    gpu = collected["gpu"]
    parts |= {"gpu": gpu, "gpu_peaks": gpu.peaks, "gpu_duels": gpu.comparisons}
    results = {**report.environment(collected["load"]), **collected.get("setting", {}), **parts, **collected["curves"]}
    sections = (
        ("speed", report.section(results) if collected["calls"] or collected["duels"] else ()),
        ("steps", few_steps.lines(collected["few_steps"])),
        ("streams", streaming.lines(collected["streams"])),
        ("generation", generation.lines(collected["generations"]) if collected["generations"] else ()),
        ("growth", curves.lines(results) if collected["curves"] else ()),
    )
    for title, lines in sections:
        if text := list(lines):
            terminalreporter.section(title)
            for line in text:
                terminalreporter.line(line)
    file = config.getoption("--results")
    if file and exitstatus == 0:
        Path(file).write_text(json.dumps(results, indent=1) + "\n")
        terminalreporter.line(f"written to {file}")
    elif file:
        terminalreporter.line(f"not written to {file}: a benchmark failed", red=True)
