"""The threads of csrc/cpu where their work fails or they cannot be started: an error, no hang and no abort."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.csrc.building import CSRC, CXX, FLAGS, needs_compiler

pytestmark = needs_compiler


@pytest.mark.parametrize("flags", [(), ("-fsanitize=thread",)], ids=["plain", "thread sanitizer"])
def test_a_failure_of_one_is_thrown_to_the_caller(tmp_path: Path, flags: tuple[str, ...]) -> None:
    program = tmp_path / "team"
    sources = [Path(__file__).with_name("team.cpp"), CSRC / "cpu" / "team.cpp"]
    command = [*CXX.split(), *FLAGS.split(), *flags, f"-I{CSRC}", "-pthread", *sources, "-o", program]
    subprocess.run(command, check=True)
    done = subprocess.run([program, *flags], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
