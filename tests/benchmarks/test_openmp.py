"""PyTorch's threads, a rival's in the benchmarks, do not spin while they wait."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from tests.support.paths import ROOT

COLLECT = ["--benchmark", "--collect-only", "-p", "no:cacheprovider", "-s", "benchmarks/bench_vocode.py"]


def collect(command):
    """What it and its OpenMP runtime print, with nothing in the environment that asks for a policy."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_", "PYTEST_"))}
    environment = {**kept, "OMP_DISPLAY_ENV": "verbose"}
    return subprocess.run([sys.executable, *command], cwd=ROOT, env=environment, capture_output=True, text=True)


def test_openmp_itself_was_told_to_wait_passively():
    done = collect(["-m", "pytest", *COLLECT])
    assert done.returncode == 0, done.stdout + done.stderr
    spins = re.findall(r"GOMP_SPINCOUNT = '(\w+)'", done.stdout + done.stderr)
    if not spins:
        pytest.skip("no GNU OpenMP here, which alone says how long it spins")
    assert set(spins) == {"0"}  # as it would be 300000 had it not been told


def test_benchmarks_are_refused_where_openmp_was_loaded_before():
    done = collect(["-c", f"import torch, sys, pytest; sys.exit(pytest.main({COLLECT!r}))"])
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "expected to set OMP_WAIT_POLICY before torch is imported" in done.stderr
