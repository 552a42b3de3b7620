"""The remedies in messages: those of a checkout, and those of an installed wheel."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from engine.checks import installation
from tests.support.paths import ROOT

PROGRAM = "from engine.checks.installation import *; print(source_folder(), how_to_install('gpu'), how_to_build())"


def test_the_checkout_is_a_source_folder() -> None:
    assert installation.source_folder() == ROOT
    assert installation.how_to_install("gpu") == "pip install -e '.[gpu]' in the source folder"
    assert "run 'pip install -e .' in it" in installation.how_to_build()


def test_an_installed_copy_has_none(tmp_path: Path) -> None:
    """A copy of two modules stands for an installed wheel."""
    for name in ("checks/__init__.py", "checks/installation.py"):
        (tmp_path / "engine" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / "engine" / name, tmp_path / "engine" / name)
    (tmp_path / "engine" / "__init__.py").touch()
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-c", PROGRAM]
    out = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True).stdout
    assert out.startswith("None pip install 'diffwave-engine[gpu]' not installed for this Python; reinstall")
    assert "source" not in out and "-e" not in out.replace("diffwave-engine", "")


@pytest.mark.parametrize("file", ["setup.py", "pyproject.toml"])
def test_the_distribution_has_this_name(file: str) -> None:
    assert (ROOT / file).is_file()
    assert f'name = "{installation.DISTRIBUTION}"' in (ROOT / "pyproject.toml").read_text()
