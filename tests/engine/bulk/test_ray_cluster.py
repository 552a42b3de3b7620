"""Jobs on a local Ray cluster: `make ray`. Killed actors and lost nodes change no byte."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from engine.bulk import Summary, api, ray_cluster, vocode_files
from engine.bulk.tasks import Settings
from engine.errors import UnavailableError
from tests.engine.bulk.jobs import ENVIRONMENT, PROGRAM, Job, digests

STORE = 80 * 2**20  # bytes of an object store


def without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ray", "ray.data"):
        monkeypatch.setitem(sys.modules, name, None)


def test_the_extra_is_named(job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_ray(monkeypatch)
    with pytest.raises(UnavailableError, match=r"ray: it needs Ray Data; pip install .*\[ray\]"):
        vocode_files(job.mels, tmp_path / "out", model=job.model, ray="local")
    assert not (tmp_path / "out").exists()


def test_the_device_does_not_depend_on_this_machine() -> None:
    settings = Settings("vocode", "/out")
    assert ray_cluster.for_cluster(settings) == replace(settings, device="cpu", threads=1)
    gpu = replace(settings, device="cuda:0", threads=4)
    assert ray_cluster.for_cluster(gpu) == replace(gpu, device="cuda")


def test_an_address_where_nothing_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        ray_cluster._check_reachable(f"127.0.0.1:{port}")
    with pytest.raises(UnavailableError, match=f"ray: expected a cluster at '127.0.0.1:{port}', got: .*refused"):
        ray_cluster._check_reachable(f"127.0.0.1:{port}")
    with pytest.raises(UnavailableError, match="start one with 'ray start --head'"):
        ray_cluster._check_reachable("127.0.0.1:99999")
    ray_cluster._check_reachable("auto")


def test_rows_that_come_twice_count_once() -> None:
    works = {"a": object(), "b": object()}
    row = {"id": "a", "seconds": 1.0, "reason": "", "warnings": [], "notes": []}
    outcomes = [*ray_cluster._outcomes(row, works), *ray_cluster._outcomes(row, works)]  # type: ignore[arg-type]
    assert [outcome.id for outcome in outcomes] == ["a"]
    again = [*ray_cluster._outcomes({"again": "b"}, works), *ray_cluster._outcomes({"again": "b"}, works)]  # type: ignore[arg-type]
    assert [outcome.id for outcome in again] == ["b"] and not works
    with pytest.raises(OSError, match="No space left"):
        list(ray_cluster._outcomes({"error": [28, "No space left on device", ""]}, works))  # type: ignore[arg-type]


def test_a_cluster_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = ray_cluster.Cluster(ray_cluster, 1, 0)
    ended = threading.Event()

    def hanging() -> Iterator[dict[str, Any]]:
        ended.wait()
        yield {}

    monkeypatch.setattr(cluster, "_dataset", lambda *arguments: hanging())
    work = ray_cluster.Work("a", "a.npy", "a.wav")
    with pytest.raises(UnavailableError, match="ray: expected a finished group within 0 minutes, got none; 1 files"):
        list(cluster.run([[work]], Settings("vocode", "/out"), 0, None, 0.05))
    ended.set()


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Start a cluster of three nodes on this machine, with one processor each."""
    pytest.importorskip("ray", reason="Ray is in the extra 'ray'")
    from ray.cluster_utils import Cluster

    variables = {"PYTHONPATH": ENVIRONMENT["PYTHONPATH"], "RAY_USAGE_STATS_ENABLED": "0"}
    with mock.patch.dict(os.environ, variables):
        arguments = {"num_cpus": 1, "object_store_memory": STORE}
        cluster = Cluster(initialize_head=True, head_node_args={**arguments, "include_dashboard": False})
        for _ in range(2):
            cluster.add_node(**arguments)
        yield cluster
        import ray

        ray.shutdown()
        cluster.shutdown()


@pytest.fixture
def small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every group be a single mel, so that there is something to share out."""
    monkeypatch.setattr(api, "CLUSTER_FRAMES", 0)


def actors() -> list[int]:
    """Return the processes of the actors on this machine."""
    text = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True, check=True).stdout
    lines = [line.split(maxsplit=1) for line in text.splitlines()[1:]]
    return [int(number) for number, command in lines if "ray::" in command and "Stage" in command]


def run(job: Job, folder: Path, address: str, at: int = -1, event: Callable[[], None] | None = None) -> Summary:
    """Run a job on a cluster; an event happens when so many files were reported."""
    counts: Counter[int] = Counter()

    def progress(summary: Summary) -> None:
        counts[summary.files] += 1
        if summary.files == at and event is not None:
            event()

    summary = vocode_files(
        job.mels, folder, model=job.model, device="cpu", ray=address, patience=300, progress=progress
    )
    assert set(counts.values()) == {1}  # nothing was counted twice
    return summary


@pytest.mark.ray
def test_a_job_on_a_cluster_has_the_same_bytes(job: Job, tmp_path: Path, cluster: Any, small_groups: None) -> None:
    summary = run(job, tmp_path / "out", cluster.address)
    assert (summary.files, summary.failed) == (12, 0) and digests(tmp_path / "out") == job.expected
    again = run(job, tmp_path / "out", cluster.address)
    assert (again.files, again.done_before) == (0, 12)


@pytest.mark.ray
def test_a_bad_file_on_a_cluster(job: Job, tmp_path: Path, cluster: Any) -> None:
    (tmp_path / "bad.npy").write_bytes(b"\x93NUMPY broken")
    inputs = [job.mels, tmp_path / "bad.npy"]
    summary = vocode_files(inputs, tmp_path / "out", model=job.model, device="cpu", ray=cluster.address)
    assert (summary.files, summary.failed) == (12, 1) and digests(tmp_path / "out") == job.expected
    assert [json.loads(line)["id"] for line in (tmp_path / "out" / "_failed.jsonl").read_text().splitlines()] == ["bad"]


@pytest.mark.ray
def test_a_killed_actor_changes_no_byte(job: Job, tmp_path: Path, cluster: Any, small_groups: None) -> None:
    killed: list[int] = []

    def kill() -> None:
        killed.extend(actors()[:1])
        os.kill(killed[0], signal.SIGKILL)

    summary = run(job, tmp_path / "out", cluster.address, 2, kill)
    assert killed and (summary.files, summary.failed) == (12, 0) and digests(tmp_path / "out") == job.expected


@pytest.mark.ray
def test_an_actor_of_another_arithmetic_is_refused(job: Job, tmp_path: Path, cluster: Any) -> None:
    settings = Settings("vocode", str(tmp_path), "wav", str(job.model), device="cpu", threads=1, arithmetic="other")
    work = ray_cluster.Work("a", str(job.mels / "u01.npy"), "a.wav")
    error = pytest.raises(UnavailableError, match="expected arithmetic of the class 'other'")
    with ray_cluster.connected(cluster.address, settings) as connection, error:
        list(connection.run([[work]], settings, 0, 1, 300))


@pytest.mark.ray
def test_a_lost_node_changes_no_byte(job: Job, tmp_path: Path, cluster: Any, small_groups: None) -> None:
    node = next(iter(cluster.worker_nodes))
    event = lambda: cluster.remove_node(node, allow_graceful=False)  # noqa: E731
    summary = run(job, tmp_path / "out", cluster.address, 3, event)
    assert node not in cluster.worker_nodes
    assert (summary.files, summary.failed) == (12, 0) and digests(tmp_path / "out") == job.expected


@pytest.mark.ray
def test_the_command_on_a_cluster_of_its_own(job: Job, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="Ray is in the extra 'ray'")
    command = [sys.executable, "-c", PROGRAM, "vocode", str(job.mels), "-o", str(tmp_path / "out")]
    command += ["--model", str(job.model), "--device", "cpu", "--ray"]
    local = subprocess.run([*command, "local"], env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert local.returncode == 0, local.stderr
    assert local.stdout.startswith("12 files, ") and digests(tmp_path / "out") == job.expected
