"""The first target of the Makefile, the virtual environment: it names an old Python and leaves no incomplete one."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT

if shutil.which("make") is None:
    pytest.skip("no make", allow_module_level=True)

# An interpreter that claims to be old, and one that leaves half an environment, as Debian's without python3-venv.
OLD = '[ "$1" = -c ] && exec {python} -c "import sys; sys.version_info = (3, 9, 18)\n$2"'
HALF = 'if [ "$2" = venv ]; then mkdir -p "$3/bin"; ln -s {python} "$3/bin/python"; echo "no ensurepip" >&2; exit 1; fi'


def make(folder: Path, script: str) -> subprocess.CompletedProcess[str]:
    """Run the target in a folder with an interpreter that a script stands for."""
    interpreter = folder / "python"
    interpreter.write_text(f'#!/bin/sh\n{script.format(python=sys.executable)}\nexec {sys.executable} "$@"\n')
    interpreter.chmod(0o755)
    for name in ("Makefile", "pyproject.toml", "setup.py"):
        shutil.copy(ROOT / name, folder / name)
    (folder / "csrc" / "cpu").mkdir(parents=True, exist_ok=True)
    command = ["make", ".venv/bin/python", f"PYTHON={interpreter}"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_an_old_python_is_named(tmp_path: Path) -> None:
    run = make(tmp_path, OLD)
    assert run.returncode and not (tmp_path / ".venv").exists()
    expected = "make: expected Python 3.10 or newer, got 3.9; say PYTHON=python3.12 for another"
    assert run.stderr.splitlines()[0] == expected


def test_half_an_environment_is_made_again(tmp_path: Path) -> None:
    run = make(tmp_path, HALF)
    assert run.returncode and "no ensurepip" in run.stderr
    assert not (tmp_path / ".venv" / "bin" / "python").is_symlink()
    assert make(tmp_path, ":").returncode == 0
    assert (tmp_path / ".venv" / "bin" / "pip").exists()
