"""Tests of the tier avxvnni on a processor with AVX-512 VNNI, using the AVX-512 encoding of the dot product.

test_disassembly.py covers the encoding of AVX-VNNI itself.
"""

import os
import shutil
import subprocess
import sys

import pytest

from engine.kernels import cpu
from tests.csrc.building import CXX, needs_compiler
from tests.support.paths import ROOT

PARTS = ("engine", "kernels", "csrc", "tests", "benchmarks", "setup.py", "pyproject.toml", "README.md")
HAS_VNNI = {name: supported for name, supported, _, _ in cpu.tiers()}.get("avx512vnni", False)


@pytest.mark.slow
@needs_compiler
@pytest.mark.skipif(not HAS_VNNI, reason="this processor has no AVX-512 with VNNI")
def test_the_tier_with_the_encoding_of_avx512(tmp_path):
    for part in PARTS:
        if (ROOT / part).is_dir():
            ignored = shutil.ignore_patterns("*.so", "__pycache__", "results")
            shutil.copytree(ROOT / part, tmp_path / part, symlinks=True, ignore=ignored)
        else:
            shutil.copy(ROOT / part, tmp_path)
    inside = tmp_path / "engine" / "kernels"
    inside.unlink(missing_ok=True)
    inside.symlink_to("../kernels")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "CXX": f"{CXX} -DDIFFWAVE_VNNI_AS_AVX512"}

    def run(*arguments):
        command = [sys.executable, *arguments]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout

    run("setup.py", "-q", "build_ext", "--inplace")
    list_tiers = "import engine.kernels._native as n; print(n.__file__, *[t[0] for t in n.tiers() if t[1]])"
    file, *tiers = run("-c", list_tiers).split()
    assert file.startswith(str(tmp_path)) and "avxvnni" in tiers
    selection = "(avxvnni or every_tier) and not system"
    tests = run("-m", "pytest", "-p", "no:cacheprovider", "tests/kernels", "-k", selection, "-rs")
    assert " passed" in tests and "AVX-VNNI" not in tests  # no test was skipped for lack of AVX-VNNI
