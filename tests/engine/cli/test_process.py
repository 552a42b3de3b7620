"""The command line as a process: the script, pipes, terminals and Ctrl-C."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.commands import MEL, REPORT

SCRIPT = [str(Path(sys.executable).with_name("engine"))]
MODULE = [sys.executable, "-m", "engine"]
# A child inherits an ignored SIGINT from pytest.
INTERRUPTIBLE = (
    "import runpy, signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "runpy.run_module('engine', run_name='__main__', alter_sys=True)"
)
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def run_process(command: list[str], *arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": ENVIRONMENT, **options}
    return subprocess.run([*command, *map(str, arguments)], text=True, timeout=60, **options)


@pytest.mark.parametrize("command", [SCRIPT, MODULE], ids=["script", "module"])
def test_script_and_module(workspace: Path, command: list[str]) -> None:
    if not Path(command[0]).exists():
        pytest.skip("the script is not installed beside this Python")
    process = run_process(command, "vocode", "mel.npy", "-o", "out.wav", "--model", "small.safetensors")
    assert (process.returncode, process.stderr) == (0, "")  # no progress bar in a pipe
    assert re.fullmatch(f"wrote out.wav\n{REPORT}\n", process.stdout)
    failed = run_process(command, "vocode", "absent.npy", "-o", "out.wav")
    assert (failed.returncode, failed.stdout) == (2, "")
    assert failed.stderr == "engine: error: absent.npy: cannot read it: No such file or directory\n"


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("arguments", [["info", "small.safetensors"], ["--help"]])
def test_a_closed_pipe_gives_no_traceback(workspace: Path, unbuffered: str, arguments: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    environment = {**ENVIRONMENT, "PYTHONUNBUFFERED": unbuffered}
    closed = run_process(MODULE, *arguments, stdout=writer, env=environment)
    # argparse ignores errors when it prints its help
    assert closed.stderr == "" and closed.returncode in ([141] if arguments[0] == "info" else [0, 141])
    silent = run_process(MODULE, "info", "absent", stdout=subprocess.PIPE, stderr=writer, env=environment)
    os.close(writer)
    assert (silent.returncode, silent.stdout) == (2, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_stdout_on_a_full_disk(workspace: Path) -> None:
    with open("/dev/full", "w") as full:
        result = run_process(MODULE, "info", "small.safetensors", stdout=full)
    assert (result.returncode, result.stderr) == (1, "engine: error: No space left on device\n")


def test_file_names_outside_the_encoding_of_the_terminal(workspace: Path) -> None:
    arguments = ["vocode", "mel.npy", "-o", "fünf.wav", "--model", "small.safetensors"]
    result = run_process(MODULE, *arguments, env={**ENVIRONMENT, "PYTHONIOENCODING": "ascii"})
    assert result.returncode == 0 and result.stdout.startswith("wrote f\\xfcnf.wav\n") and Path("fünf.wav").exists()


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    master, slave = pty.openpty()
    yield master, slave
    for descriptor in (master, slave):
        os.close(descriptor)


def read_until(terminal: int, text: bytes, seconds: float = 30) -> bytes:
    os.set_blocking(terminal, False)
    output, deadline = b"", time.monotonic() + seconds
    while text not in output and time.monotonic() < deadline:
        try:
            output += os.read(terminal, 65536)
        except BlockingIOError:
            time.sleep(0.01)
    assert text in output, output
    return output


def test_a_terminal_shows_a_progress_bar(workspace: Path, terminal: tuple[int, int]) -> None:
    master, slave = terminal
    arguments = ["vocode", "mel.npy", "-o", "out.wav", "--model", "small.safetensors", "--steps", "full"]
    result = run_process(MODULE, *arguments, stderr=slave)
    assert result.returncode == 0 and re.fullmatch(f"wrote out.wav\n{REPORT}\n", result.stdout)
    shown = read_until(master, b" %, 0:0").decode()
    assert re.match(r"\r\[#*\.+\] +\d+ %, 0:0\d elapsed, 0:0\d remaining", shown)
    assert shown.endswith("\r") and set(shown.split("\r")[-2]) == {" "}  # erased


def test_control_c_leaves_no_file(workspace: Path, terminal: tuple[int, int]) -> None:
    master, slave = terminal
    np.save("long.npy", np.tile(MEL, 4000))
    before = sorted(os.listdir())
    command = [sys.executable, "-c", INTERRUPTIBLE, "vocode", "long.npy", "-o", "out.wav"]
    command += ["--model", "small.safetensors", "--steps", "full", "--threads", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=slave, env=ENVIRONMENT) as process:
        try:
            read_until(master, b" remaining")
            process.send_signal(signal.SIGINT)
            out, _ = process.communicate(timeout=30)
        finally:
            process.kill()
    assert (process.returncode, out) == (130, b"")
    output = read_until(master, b"interrupted\r\n")
    assert output.split(b"\r")[-2:] == [b"engine: interrupted", b"\n"] and b"Traceback" not in output
    assert sorted(os.listdir()) == before
