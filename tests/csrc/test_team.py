"""Tests of the thread team of csrc/cpu: work that throws and threads that cannot start raise errors."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.csrc.building import CSRC, CXX, FLAGS, needs_compiler

pytestmark = needs_compiler


@pytest.mark.parametrize("flags", [(), ("-fsanitize=thread",)], ids=["plain", "thread sanitizer"])
def test_an_exception_in_one_thread_reaches_the_caller(tmp_path: Path, flags: tuple[str, ...]) -> None:
    program = tmp_path / "team"
    sources = [Path(__file__).with_name("team.cpp"), CSRC / "cpu" / "team.cpp"]
    command = [*CXX.split(), *FLAGS.split(), *flags, f"-I{CSRC}", "-pthread", *sources, "-o", program]
    subprocess.run(command, check=True)
    done = subprocess.run([program, *flags], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
