"""Worker processes: sharing out, processes that are killed, items that kill them, and errors before the work."""

from __future__ import annotations

import ast
import json
import os
import signal
import subprocess
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from engine.bulk import Summary, vocode_files, workers
from engine.bulk.tasks import Settings, Work
from engine.bulk.workers import run_workers, settings_of
from engine.errors import CheckpointError, UnavailableError
from tests.engine.bulk.jobs import Job, digests
from tests.support.commands import MEL, SMALL

SETTINGS = Settings("vocode", "/out", "wav")
# Kills the process that reads a file of this name, as the system does for lack of memory; with a mark only the first.
KILLER = """
import os, signal, sys
def hook(event, arguments):
    if event == "open" and str(arguments[0]).endswith({name!r}) and not os.path.exists({mark!r}):
        if {mark!r}:
            os.mkdir({mark!r})
        os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(hook)
"""
FULL = """
import errno, os
def full(descriptor):
    raise OSError(errno.ENOSPC, "No space left on device")
os.fsync = full
"""


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[bytes]]:
    """Return the worker processes in the order in which they start."""
    processes: list[subprocess.Popen[bytes]] = []

    class Recorded(subprocess.Popen):  # type: ignore[type-arg]
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            processes.append(self)

    monkeypatch.setattr(workers.subprocess, "Popen", Recorded)
    return processes


def test_threads_and_devices_are_shared_out() -> None:
    def shared(devices: list[str], count: int, threads: int) -> list[tuple[str, int | None]]:
        return [(settings.device, settings.threads) for settings in settings_of(SETTINGS, devices, count, threads)]

    assert shared(["cpu"], 3, 8) == [("cpu", 2)] * 3 and shared(["cpu"], 4, 2) == [("cpu", 1)] * 4
    assert shared(["cuda:0", "cuda:1"], 2, 8) == [("cuda:0", 4), ("cuda:1", 4)]
    assert shared(["cuda:0", "cuda:1"], 3, 3) == [("cuda:0", 1), ("cuda:1", 1), ("cuda:0", 1)]


def test_every_device_gets_a_worker(job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, int | None]] = []

    def run(settings: Any, groups: Any) -> Any:
        seen.extend((worker.device, worker.threads) for worker in settings)
        yield from ()

    monkeypatch.setattr("engine.bulk.api.in_processes", run)
    real = workers.settings_of
    monkeypatch.setattr("engine.bulk.api.settings_of", lambda *arguments: real(*arguments))
    vocode_files(job.mels, tmp_path / "a", model=job.model, device=["cpu", "cpu"], threads=6)
    vocode_files(job.mels, tmp_path / "b", model=job.model, device="cpu", threads=6)
    vocode_files(job.mels, tmp_path / "c", model=job.model, device="cpu", workers=500, threads=6)
    assert seen == [("cpu", 3)] * 2 + [("cpu", 6)] + [("cpu", 1)] * 12  # no more workers than groups


def test_a_killed_worker_is_replaced(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, started: list[subprocess.Popen[bytes]]
) -> None:
    (tmp_path / "sitecustomize.py").write_text(KILLER.format(name="u07.npy", mark=str(tmp_path / "killed")))
    monkeypatch.syspath_prepend(tmp_path)
    summary = vocode_files(job.mels, tmp_path / "out", model=job.model, device="cpu", workers=2)
    assert (summary.files, summary.failed) == (12, 0) and digests(tmp_path / "out") == job.expected
    statuses = [process.poll() for process in started]
    assert statuses.count(-signal.SIGKILL) == 1 and None not in statuses and len(started) <= 3


def test_an_item_that_kills_its_worker_twice_has_failed(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, started: list[subprocess.Popen[bytes]]
) -> None:
    (tmp_path / "sitecustomize.py").write_text(KILLER.format(name="killer.npy", mark=""))
    monkeypatch.syspath_prepend(tmp_path)
    np.save(tmp_path / "killer.npy", np.tile(MEL, 9))
    inputs = [tmp_path / "killer.npy", job.mels]
    summary = vocode_files(inputs, tmp_path / "out", model=job.model, device="cpu", workers=2)
    assert summary.files == 12 and digests(tmp_path / "out") == job.expected
    reason = "its worker ended 2 times, last with signal 9: perhaps killed for lack of memory"
    assert summary.failures == {"killer": reason}
    assert [process.poll() for process in started].count(-signal.SIGKILL) == 2


def test_modules_in_the_working_directory_are_not_imported(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("queue", "numpy", "json"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit(9)")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(workers.sys, "path", [path for path in workers.sys.path if path])
    assert vocode_files(job.mels, tmp_path / "out", model=job.model, device="cpu", workers=2).files == 12


@pytest.mark.parametrize("safe_path", ["", "1"])
def test_workers_import_the_package_of_their_parent(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, safe_path: str
) -> None:
    """With PYTHONSAFEPATH, the first entry of sys.path is not the working directory."""
    (tmp_path / "first").mkdir()
    (tmp_path / "first" / "sitecustomize.py").write_text(
        f"import atexit, os, sys; open({str(tmp_path / 'paths')!r}, 'a')\n"
        "class Seen:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'engine.bulk.worker':\n"
        f"            open({str(tmp_path / 'paths')!r}, 'a').write(repr(sys.path) + '\\n')\n"
        "sys.meta_path.insert(0, Seen())\n"
    )
    monkeypatch.syspath_prepend(tmp_path / "first")
    monkeypatch.setenv("PYTHONSAFEPATH", safe_path)
    vocode_files(job.mels, tmp_path / "out", model=job.model, device="cpu", workers=2)
    paths = [ast.literal_eval(line) for line in (tmp_path / "paths").read_text().splitlines()]
    assert len(paths) == 2 and all(path[0] == str(tmp_path / "first") for path in paths)


def test_workers_close_their_files(job: Job, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.MonkeyPatch.context() as context:
        context.setenv("PYTHONWARNINGS", "error::ResourceWarning")
        vocode_files(job.mels, tmp_path / "out", model=job.model, device="cpu", workers=2)
    assert capfd.readouterr().err == ""


def test_warnings_of_loading_come_once(job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = dict(load_file(job.model), **{"extra.weight": np.zeros(3, np.float32)})
    save_file(tensors, tmp_path / "more.safetensors")
    settings = {"dilation_cycle_length": 2, "sample_rate": 22050, "noise_schedule": SMALL.train_schedule}
    (tmp_path / "config.json").write_text(json.dumps(settings))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        vocode_files(job.mels, tmp_path / "out", model=tmp_path / "more.safetensors", device="cpu", workers=2)
    assert len(caught) == 1 and "ignored 1 tensors" in str(caught[0].message)


def test_errors_of_loading_are_those_of_the_library(job: Job, tmp_path: Path) -> None:
    settings = replace(SETTINGS, folder=str(tmp_path), model=str(tmp_path / "absent.pt"), device="cpu", threads=1)
    with pytest.raises(CheckpointError, match=r"absent\.pt: "):
        list(run_workers([[Work("a", "a.npy", "a.wav")]], [settings]))
    other = replace(settings, model=str(job.model), arithmetic="cpu of another kind")
    with pytest.raises(UnavailableError, match="isa: expected arithmetic of the class 'cpu of another kind'"):
        list(run_workers([[Work("a", "a.npy", "a.wav")]], [other]))


def test_workers_that_never_start_end_the_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, started: list[subprocess.Popen[bytes]]
) -> None:
    monkeypatch.setattr(workers.sys, "executable", "/bin/false")
    message = r"workers: expected processes that load the network, got exit status 1 3 times in a row"
    with pytest.raises(UnavailableError, match=message):
        list(run_workers([[Work("a", "a.npy", "a.wav")]], [replace(SETTINGS, threads=1)]))
    assert len(started) == 3


def test_a_full_disk_ends_the_job(job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sitecustomize.py").write_text(FULL)
    with monkeypatch.context() as context:
        context.syspath_prepend(tmp_path)
        with pytest.raises(OSError, match="No space left on device"):
            vocode_files(job.mels, tmp_path / "out", model=job.model, device="cpu", workers=2)
    assert digests(tmp_path / "out") == {} and not list((tmp_path / "out").rglob("*.tmp"))


def test_workers_end_with_the_job(job: Job, tmp_path: Path, started: list[subprocess.Popen[bytes]]) -> None:
    np.save(tmp_path / "long.npy", np.tile(MEL, 4000))

    def interrupt(summary: Summary) -> None:
        if summary.files == 2:
            raise KeyboardInterrupt

    inputs = [tmp_path / "long.npy", job.mels]
    with pytest.raises(KeyboardInterrupt):
        vocode_files(inputs, tmp_path / "out", model=job.model, device="cpu", workers=2, progress=interrupt)
    assert [process.poll() for process in started] == [128 + signal.SIGTERM] * 2  # ended by themselves, in their work
    assert digests(tmp_path / "out").items() <= job.expected.items()
    assert not list((tmp_path / "out").rglob(".engine-*.tmp"))


def test_a_worker_ends_when_its_parent_was_killed(job: Job, tmp_path: Path) -> None:
    np.save(tmp_path / "long.npy", np.tile(MEL, 4000))
    settings = replace(SETTINGS, folder=str(tmp_path), model=str(job.model), device="cpu", threads=1)
    messages: Any = workers.queue.Queue()
    process = workers._Process(settings, messages)
    assert messages.get()[1] == {"ready": True, "warnings": []}
    process.give([Work("long", str(tmp_path / "long.npy"), "long.wav")])
    os.kill(process.pid, 0)
    process.leave()  # as the end of the parent does
    assert messages.get()[1] is None and process.wait() == 128 + signal.SIGTERM
    assert not (tmp_path / "long.wav").exists()
