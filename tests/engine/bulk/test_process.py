"""The command as a process: killed as a whole, interrupted, terminated, and started twice."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.engine.bulk.jobs import ENVIRONMENT, PROGRAM, Job, digests
from tests.support.commands import MEL

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")


def start(job: Job, long: Path, folder: Path, *options: str) -> subprocess.Popen[str]:
    """Start a job of 13 mels; the long one takes minutes and is the first."""
    command = [sys.executable, "-c", PROGRAM, "vocode", str(job.mels), str(long), "-o", str(folder)]
    return subprocess.Popen(
        [*command, "--model", str(job.model), "--device", "cpu", *options],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def long_mel(folder: Path) -> Path:
    np.save(folder / "long.npy", np.tile(MEL, 4000))
    return folder / "long.npy"


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)


def children(process: subprocess.Popen[str]) -> list[int]:
    """Return the worker processes."""
    return [int(number) for number in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="reads /proc")
def test_a_job_that_was_killed_as_a_whole_resumes(job: Job, tmp_path: Path) -> None:
    long = long_mel(tmp_path)
    out = tmp_path / "out"
    with start(job, long, out, "--workers", "2") as process:
        try:
            wait_for(lambda: len(digests(out)) >= 4, process)
        finally:
            for number in (process.pid, *children(process)):
                os.kill(number, signal.SIGKILL)
        process.communicate()
    part = digests(out)
    assert 4 <= len(part) <= 12 and part.items() <= job.expected.items()
    assert not list(out.rglob(".engine-*.tmp")) or sys.platform != "linux"
    np.save(long, MEL)  # let the same command end soon
    with start(job, long, out, "--workers", "2") as process:
        text, error = process.communicate(timeout=60)
    assert process.returncode == 0 and error == ""
    assert text.startswith(f"{13 - len(part)} files, ") and text.endswith(f", {len(part)} done before\n")
    assert {name: digest for name, digest in digests(out).items() if name != "long.wav"} == job.expected


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_says_how_to_resume(job: Job, tmp_path: Path, number: signal.Signals) -> None:
    long = long_mel(tmp_path)
    out = tmp_path / "out"
    with start(job, long, out, "--workers", "2") as process:
        try:
            wait_for(lambda: len(digests(out)) >= 2, process)
            process.send_signal(number)
            text, error = process.communicate(timeout=60)
        finally:
            process.kill()
    name = "interrupted" if number == signal.SIGINT else f"ended by {number.name}"
    assert (process.returncode, text) == (128 + number, "")
    counted, ended = error.splitlines()[-2:]
    match = re.fullmatch(r"engine: (\d+) of 13 files are done; the same command resumes", counted)
    assert match is not None and ended == f"engine: {name}"
    assert int(match[1]) <= len(digests(out))  # a file may be there whose worker has not said so yet
    assert not list(out.rglob(".engine-*.tmp"))


def test_two_runs_do_not_share_a_folder(job: Job, tmp_path: Path) -> None:
    long = long_mel(tmp_path)
    out = tmp_path / "out"
    with start(job, long, out) as first:
        try:
            wait_for(lambda: (out / "_job.json").exists(), first)
            with start(job, long, out) as second:
                text, error = second.communicate(timeout=60)
        finally:
            first.kill()
    assert (second.returncode, text) == (2, "")
    assert error.startswith(f"engine: error: -o: another process writes into '{out}'")
