"""What is packed is what builds, and what its tests and pages need."""

import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.support.paths import ROOT

REPOSITORY = {".gitignore", ".clang-format", ".ci"}  # of use where it is worked on


def test_the_source_distribution_has_every_file(tmp_path):
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("this is no git checkout")
    names = [name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    subprocess.run([sys.executable, "setup.py", "-q", "sdist"], cwd=tmp_path, check=True, capture_output=True)
    (made,) = (tmp_path / "dist").iterdir()
    with tarfile.open(made) as archive:
        packed = {member.partition("/")[2] for member in archive.getnames()}
    assert {name for name in names if Path(name).parts[0] not in REPOSITORY} <= packed
    assert not [name for name in packed if name.endswith((".so", ".pyc"))]
