"""The folder that `python -m csrc.tools.wheels` writes into; `make wheels` tests the wheels themselves."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from csrc.tools import wheels
from tests.support.paths import ROOT


def test_other_files_of_the_folder_remain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class BuildingError(Exception):
        pass

    def build_nothing(folder: Path) -> Path:
        raise BuildingError

    monkeypatch.setattr(wheels, "source_distribution", build_nothing)
    old = "diffwave_engine-0.0.1-cp312-cp312-manylinux_2_17_x86_64.whl"
    for name in (old, "diffwave_engine-0.0.1.tar.gz", "letter.txt", "numpy-2.0.0-cp312-cp312-linux_x86_64.whl"):
        (tmp_path / name).touch()
    (tmp_path / "photos").mkdir()
    with pytest.raises(BuildingError):
        wheels.main(tmp_path)
    remaining = {path.name for path in tmp_path.iterdir()}
    assert remaining == {"letter.txt", "numpy-2.0.0-cp312-cp312-linux_x86_64.whl", "photos"}


def test_help_writes_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "csrc.tools.wheels", "--help"]
    run = subprocess.run(command, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert run.returncode == 0 and "FOLDER" in run.stdout, run.stderr
    assert list(tmp_path.iterdir()) == []
