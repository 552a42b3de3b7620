"""Tests of the thread team of csrc/cpu: work that throws, threads that wait, and threads that cannot start."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.csrc.building import CSRC, CXX, FLAGS, needs_compiler

pytestmark = needs_compiler


BUILDS = {
    "plain": (),
    "thread sanitizer": ("-fsanitize=thread",),
    "address sanitizer": ("-fsanitize=address,undefined", "-fno-sanitize-recover=all"),
}


@pytest.mark.parametrize("flags", BUILDS.values(), ids=BUILDS)
def test_threads_work_wait_and_fail_together(tmp_path: Path, flags: tuple[str, ...]) -> None:
    program = tmp_path / "team"
    sources = [Path(__file__).with_name("team.cpp"), CSRC / "cpu" / "team.cpp", CSRC / "cpu" / "system.cpp"]
    command = [*CXX.split(), *FLAGS.split(), *flags, f"-I{CSRC}", "-pthread", *sources, "-o", program]
    subprocess.run(command, check=True)
    done = subprocess.run([program, *flags], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
