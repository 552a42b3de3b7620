"""PyTorch's threads do not spin while they wait, so that a baseline is not slowed down."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from tests.support.paths import ROOT

# The options at the root, then torch; and the same as pytest does it.
IMPORT = ["-c", "import conftest, torch"]
COLLECT = ["-m", "pytest", "--benchmark", "--collect-only", "-p", "no:cacheprovider", "-s", "benchmarks/cpu"]


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a command with OpenMP's diagnostics, in an environment that sets no policy."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_", "PYTEST_"))}
    environment = {**kept, "OMP_DISPLAY_ENV": "verbose"}
    return subprocess.run([sys.executable, *command], cwd=ROOT, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize("command", [IMPORT, pytest.param(COLLECT, marks=pytest.mark.slow)], ids=["import", "pytest"])
def test_openmp_waits_passively(command: list[str]) -> None:
    done = run(command)
    assert done.returncode == 0, done.stdout + done.stderr
    spins = re.findall(r"GOMP_SPINCOUNT = '(\w+)'", done.stdout + done.stderr)
    if not spins:
        pytest.skip("no GNU OpenMP here, which alone prints how long it spins")
    assert set(spins) == {"0"}  # the default is 300000


def test_benchmarks_are_refused_where_torch_is_imported_already() -> None:
    """A module of that name is enough, and a folder without tests: only the options at the root are read."""
    early = "import sys, types; sys.modules['torch'] = types.ModuleType('torch'); import pytest"
    done = run(["-c", f"{early}; sys.exit(pytest.main(['--benchmark', '--collect-only', 'csrc']))"])
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "expected OMP_WAIT_POLICY to be set before torch is imported" in done.stderr
