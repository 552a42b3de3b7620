"""Tests of Triton's interpreter run in processes of their own: they start first and run beside all others."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent / "interpreted"
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "TRITON_INTERPRET": "1"}
STARTED = pytest.StashKey()


def pytest_collection_finish(session):
    wanted = {item.callspec.params["name"] for item in session.items if item.path.name == "test_interpreter.py"}
    if not wanted or session.config.option.collectonly:
        return
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-o", "addopts=", "-q"]
    session.config.stash[STARTED] = {
        name: subprocess.Popen(
            [*command, FOLDER / name],
            env={**os.environ, **ENVIRONMENT},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for name in sorted(wanted)
    }


@pytest.fixture
def interpreted(request):
    """A function: file of tests -> (exit status, output)."""

    def finished(name):
        process = request.config.stash[STARTED][name]
        output, _ = process.communicate()
        return process.returncode, output

    return finished


def pytest_unconfigure(config):
    for process in config.stash.get(STARTED, {}).values():
        if process.poll() is None:
            process.kill()
