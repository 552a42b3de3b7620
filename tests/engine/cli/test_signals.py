"""Signals that end the command line: the exit status, one line on stderr, and no file that is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.support.commands import MEL

# A child inherits ignored signals from pytest, for example under nohup.
PROGRAM = """
import os, runpy, signal
for number in (signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_DFL)
if {named}:
    vars(os).pop("O_TMPFILE", None)
runpy.run_module("engine", run_name="__main__", alter_sys=True)
"""
COMMANDS = {
    "vocode": ["vocode", "long.npy", "-o", "out.wav", "--steps", "full"],
    "stream": ["vocode", "long.npy", "-o", "out.wav", "--stream", "--steps", "full"],
    "pipe": ["vocode", "-", "-o", "out.wav"],
}
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def opened(process: int, folder: Path) -> bool:
    """Return whether a process has an unfinished file of the folder open."""
    for link in Path(f"/proc/{process}/fd").iterdir():
        try:
            target = os.readlink(link)
        except FileNotFoundError:
            continue
        if target.startswith(str(folder)) and (target.endswith("(deleted)") or ".engine-" in target):
            return True
    return False


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="reads /proc")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
@pytest.mark.parametrize("named", [False, True], ids=["nameless", "named"])
@pytest.mark.parametrize("command", ["stream", "pipe"])
def test_a_signal_leaves_no_unfinished_file(workspace: Path, command: str, named: bool, name: str) -> None:
    np.save("long.npy", np.tile(MEL, 4000))
    Path("out.wav").write_bytes(b"old")
    folder, before, number = Path.cwd(), sorted(os.listdir()), getattr(signal, name)
    line = [sys.executable, "-c", PROGRAM.format(named=named), *COMMANDS[command], "--model", "small.safetensors"]
    options = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([*line, "--threads", "1"], env=ENVIRONMENT, **options) as process:  # type: ignore[call-overload]
        try:
            deadline = time.monotonic() + 60
            while not opened(process.pid, folder):
                assert time.monotonic() < deadline and process.poll() is None
                time.sleep(0.05)
            process.send_signal(number)
            out, error = process.communicate(timeout=30)
        finally:
            process.kill()
    assert (process.returncode, out, error) == (128 + number, b"", f"engine: ended by {name}\n".encode())
    assert sorted(os.listdir()) == before and Path("out.wav").read_bytes() == b"old"


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_whole_call_ends_at_once(workspace: Path, name: str) -> None:
    np.save("long.npy", np.tile(MEL, 4000))
    before, number = sorted(os.listdir()), getattr(signal, name)
    line = [sys.executable, "-c", PROGRAM.format(named=False), *COMMANDS["vocode"], "--model", "small.safetensors"]
    with subprocess.Popen([*line, "--threads", "1"], env=ENVIRONMENT, stderr=subprocess.PIPE) as process:
        try:
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(3)
            process.send_signal(number)
            _, error = process.communicate(timeout=30)
        finally:
            process.kill()
    assert (process.returncode, error) == (128 + number, f"engine: ended by {name}\n".encode())
    assert sorted(os.listdir()) == before
