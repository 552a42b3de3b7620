"""A small job for the tests of this folder."""

from __future__ import annotations

import hashlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path

ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}
# A child inherits ignored signals from pytest, for example under nohup.
PROGRAM = """
import runpy, signal
signal.signal(signal.SIGINT, signal.default_int_handler)
for number in (signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_DFL)
runpy.run_module("engine", run_name="__main__", alter_sys=True)
"""


@dataclass(frozen=True)
class Job:
    """Inputs and the digests of their results.

    Attributes:
        mels: a folder of 12 mels, half of them in a subfolder.
        model: a small network.
        expected: SHA-256 of every result by its name.
    """

    mels: Path
    model: Path
    expected: dict[str, str]


def digests(folder: Path, suffix: str = ".wav") -> dict[str, str]:
    """Return the SHA-256 of every result in a folder by its name."""
    paths = sorted(folder.rglob(f"*{suffix}"))
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}
