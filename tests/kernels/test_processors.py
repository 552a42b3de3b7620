"""The number of threads by default: affinity, CPU quotas of cgroups in both versions, and OMP_NUM_THREADS."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import engine
from engine.kernels import processors
from engine.kernels.processors import Limit, available, default_threads


@dataclass
class System:
    """A process's folder in /proc and trees of cgroups.

    Attributes:
        folder: holds everything.
        mounts: lines of mountinfo.
        cgroups: lines of the file cgroup.
    """

    folder: Path
    mounts: list[str] = field(default_factory=lambda: ["22 1 8:1 / / rw - ext4 /dev/sda1 rw"])
    cgroups: list[str] = field(default_factory=list)

    def mount(self, kind: str, point: str, root: str = "/", options: str = "rw") -> Path:
        """Mount a hierarchy: cgroup or cgroup2."""
        path = self.folder / point
        path.mkdir(parents=True, exist_ok=True)
        escaped = str(path).replace("\\", r"\134").replace(" ", r"\040")
        self.mounts.append(f"31 22 0:27 {root} {escaped} rw,nosuid shared:9 - {kind} {kind} {options}")
        return path

    def v2(self, path: str, quotas: Mapping[str, str], root: str = "/", point: str = "cgroup") -> None:
        """Put the process in a cgroup; quotas are cpu.max by the path below the mount point."""
        top = self.mount("cgroup2", point, root)
        self.cgroups.append(f"0::{path}")
        for name, text in quotas.items():
            (top / name).mkdir(parents=True, exist_ok=True)
            (top / name / "cpu.max").write_text(text)

    def v1(self, path: str, quotas: Mapping[str, tuple[int, int]], root: str = "/", point: str = "cpu,cpuacct") -> None:
        """Put the process in a cgroup of the controller cpu; quotas are (quota, period) in microseconds."""
        top = self.mount("cgroup", point, root, f"rw,{point}")
        self.cgroups.append(f"4:{point}:{path}")
        for name, (quota, period) in quotas.items():
            (top / name).mkdir(parents=True, exist_ok=True)
            (top / name / "cpu.cfs_quota_us").write_text(f"{quota}\n")
            (top / name / "cpu.cfs_period_us").write_text(f"{period}\n")

    def proc(self) -> Path:
        """Write the process's folder."""
        proc = self.folder / "proc"
        proc.mkdir(exist_ok=True)
        (proc / "mountinfo").write_text("\n".join(self.mounts) + "\n")
        (proc / "cgroup").write_text("\n".join(self.cgroups) + "\n")
        return proc

    @property
    def count(self) -> int:
        return available(self.proc()).count


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> System:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(64)), raising=False)
    return System(tmp_path)


def test_without_a_quota_the_affinity_decides(system: System) -> None:
    assert available(system.proc()) == Limit(64, "the processors this process may run on")
    system.v2("/", {})  # the root has no cpu.max
    assert available(system.proc()) == Limit(64, "the processors this process may run on")
    assert available(system.folder / "absent").count == 64


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("200000 100000\n", 2),
        ("150000 100000\n", 2),
        ("100000 100000\n", 1),
        ("50000 100000\n", 1),
        ("1000 1000000\n", 1),
        ("200001 100000\n", 3),
        ("25000 10000\n", 3),
        ("640000 10000\n", 64),
        ("9000000 100000\n", 64),
        ("max 100000\n", 64),
        ("max\n", 64),
        ("", 64),
        ("0 100000\n", 64),
        ("100000 0\n", 64),
        ("-1 100000\n", 64),
        ("nonsense here\n", 64),
    ],
)
def test_a_quota_is_rounded_up(system: System, text: str, count: int) -> None:
    system.v2("/", {".": text})
    assert system.count == count


@pytest.mark.parametrize(("quota", "count"), [(200000, 2), (150000, 2), (1000, 1), (-1, 64), (0, 64), (6500000, 64)])
def test_a_quota_of_version_1(system: System, quota: int, count: int) -> None:
    system.v1("/docker/abc", {"docker/abc": (quota, 100000)})
    assert system.count == count


def test_the_least_quota_of_the_hierarchy_decides(system: System) -> None:
    quotas = {"a/b/c": "max 100000", "a/b": "300000 100000", "a": "500000 100000", "other": "100000 100000"}
    system.v2("/a/b/c", quotas)
    limit = available(system.proc())
    assert limit == Limit(3, f"a CPU quota of 3 in {system.folder}/cgroup/a/b/cpu.max")
    (system.folder / "cgroup" / "a" / "cpu.max").write_text("250000 100000")
    limit = available(system.proc())
    assert limit == Limit(3, f"a CPU quota of 2.5 in {system.folder}/cgroup/a/cpu.max")
    (system.folder / "cgroup" / "a/b/c" / "cpu.max").write_text("70000 100000")
    assert available(system.proc()) == Limit(1, f"a CPU quota of 0.7 in {system.folder}/cgroup/a/b/c/cpu.max")


def test_the_hierarchy_of_version_1(system: System) -> None:
    system.v1("/kubepods/pod1/c", {"kubepods/pod1/c": (-1, 100000), "kubepods/pod1": (400000, 100000)})
    assert system.count == 4


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize(
    ("path", "root"),
    [
        ("/", "/"),  # a cgroup namespace of its own
        ("/kubepods/pod1/c", "/kubepods/pod1/c"),  # the container's cgroup alone is mounted
        ("/system.slice/docker-1.scope", "/"),  # the host's path, of which the container sees the end
        ("/../other", "/"),  # moved out of its namespace
        ("/a", "/b"),
    ],
)
def test_containers_see_their_quota_at_the_mount_point(system: System, version: str, path: str, root: str) -> None:
    if version == "v1":
        system.v1(path, {".": (200000, 100000)}, root)
    else:
        system.v2(path, {".": "200000 100000"}, root)
    assert system.count == 2


def test_a_cgroup_below_the_one_that_is_mounted(system: System) -> None:
    system.v2("/pod/c/worker", {"worker": "100000 100000", ".": "300000 100000"}, root="/pod/c")
    assert system.count == 1


def test_both_versions_at_once(system: System) -> None:
    system.v2("/user.slice", {"user.slice": "max 100000"}, point="unified")
    system.v1("/jobs/7", {"jobs/7": (300000, 100000)})
    system.mount("cgroup", "memory", options="rw,memory")
    system.cgroups.append("9:memory:/jobs/7")
    assert system.count == 3
    (system.folder / "unified/user.slice/cpu.max").write_text("150000 100000")
    assert system.count == 2


def test_controllers_in_one_hierarchy_have_any_order(system: System) -> None:
    system.v1("/x", {"x": (200000, 100000)}, point="cpuacct,cpu")
    assert system.count == 2


def test_only_the_controller_cpu_has_quotas(system: System) -> None:
    for number, name in enumerate(("cpuset", "cpuacct", "name=systemd")):
        system.v1("/x", {"x": (100000, 100000)}, point=name)
        system.cgroups[number] = f"{number + 1}:{name}:/x"
    assert system.count == 64


def test_names_with_spaces_and_colons(system: System) -> None:
    system.v2("/a b:c", {"a b:c": "200000 100000"}, point="my cgroup")
    assert system.count == 2


@pytest.mark.parametrize("line", ["", "31", "31 22 0:27 / /x rw", "31 22 0:27 / /x rw - cgroup2", "a - b - c"])
def test_damaged_files_are_no_limit(system: System, line: str) -> None:
    system.mounts.append(line)
    system.cgroups += ["", "0", "0::", "4:cpu", ":::"]
    assert system.count == 64


@pytest.mark.parametrize(
    ("text", "count"),
    [("3", 3), ("3,2", 3), (" 5 , 1", 5), ("+2", 2), ("1", 1), ("128", 64), ("64", 64)],
)
def test_the_first_number_of_omp_num_threads(system: System, text: str, count: int) -> None:
    limit = default_threads({"OMP_NUM_THREADS": text}, system.proc())
    assert limit.count == count and (limit.reason == "OMP_NUM_THREADS") == (count < 64)


@pytest.mark.parametrize("text", ["", "0", "-2", "two", "2x", "2.5", ",2"])
def test_other_values_of_omp_num_threads_are_ignored(system: System, text: str) -> None:
    assert default_threads({"OMP_NUM_THREADS": text}, system.proc()).count == 64


def test_the_least_of_all_decides(system: System) -> None:
    system.v2("/", {".": "400000 100000"})
    assert default_threads({"OMP_NUM_THREADS": "8"}, system.proc()).reason.startswith("a CPU quota of 4 in ")
    assert default_threads({"OMP_NUM_THREADS": "2"}, system.proc()) == Limit(2, "OMP_NUM_THREADS")
    assert default_threads({}, system.proc()).count == 4


def test_systems_without_affinity_or_cgroups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 10)
    assert default_threads({}, tmp_path) == Limit(10, "the processors of this machine")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert default_threads({}, tmp_path).count == 1


def test_a_voice_says_which_limit_decided(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    system.v2("/", {".": "200000 100000"})
    monkeypatch.setattr(processors, "PROC", system.proc())
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    voice = engine.load(device="cpu")
    assert voice.threads == 2
    assert voice.explain().endswith(f"threads 2: a CPU quota of 2 in {system.folder}/cgroup/cpu.max")
    monkeypatch.setenv("OMP_NUM_THREADS", "1,4")
    voice = engine.load(device="cpu")
    assert (voice.threads, voice.explain().splitlines()[-1]) == (1, "threads 1: OMP_NUM_THREADS")
    voice = engine.load(device="cpu", threads=5)
    assert (voice.threads, voice.explain().splitlines()[-1]) == (5, "threads 5: requested")
