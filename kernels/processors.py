"""The number of processors that this process may use: the least of its affinity, its CPU quota and OMP_NUM_THREADS.

A container with a quota of two processors on a machine of 64 sees all 64. Threads beyond the quota use it up early in
every period, and then all of them stop.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

PROC = Path("/proc/self")


@dataclass(frozen=True)
class Limit:
    """A number of processors, and what determines it.

    Attributes:
        count: number of processors, at least 1.
        reason: a phrase for `Voice.explain`.
    """

    count: int
    reason: str


def default_threads(environment: Mapping[str, str] | None = None, proc: Path | None = None) -> Limit:
    """Return how many threads a call uses unless its caller says so.

    Args:
        environment: the environment variables; None for those of the process.
        proc: the process's folder in /proc; None for `PROC`.
    """
    limits = [available(proc)]
    requested = _requested_by_openmp(os.environ if environment is None else environment)
    if requested is not None:
        limits.append(Limit(requested, "OMP_NUM_THREADS"))
    return min(limits, key=lambda limit: limit.count)


def available(proc: Path | None = None) -> Limit:
    """Return the number of processors of this process, by its affinity and its CPU quota.

    Args:
        proc: the process's folder in /proc; None for `PROC`.
    """
    limits = [_affinity()]
    quotas = list(_quotas(proc or PROC))
    if quotas:
        quota, file = min(quotas)
        limits.append(Limit(max(1, -(-quota // 1000)), f"a CPU quota of {quota / 1000:g} in {file}"))
    return min(limits, key=lambda limit: limit.count)


def _affinity() -> Limit:
    if hasattr(os, "sched_getaffinity"):
        return Limit(len(os.sched_getaffinity(0)), "the processors this process may run on")
    return Limit(os.cpu_count() or 1, "the processors of this machine")


def _requested_by_openmp(environment: Mapping[str, str]) -> int | None:
    """Return the number of threads of the outermost level in OMP_NUM_THREADS ("4" or "4,2"), None if there is none."""
    match = re.match(r"\s*\+?(\d+)\s*(,|$)", environment.get("OMP_NUM_THREADS", ""))
    return int(match[1]) or None if match else None


def _quotas(proc: Path) -> Iterator[tuple[int, str]]:
    """Yield (thousandths of a processor, file) of all quotas of the cgroups of this process and of those above them."""
    paths = dict(_cgroups(proc))
    for kind, root, mount in _cgroup_mounts(proc):
        if kind not in paths:
            continue
        for folder in _up_to(mount, _below(paths[kind], root)):
            if kind == "v2":
                file, values = folder / "cpu.max", _read(folder / "cpu.max").split()
            else:
                file = folder / "cpu.cfs_quota_us"
                values = [_read(file).strip(), _read(folder / "cpu.cfs_period_us").strip()]
            if len(values) == 2 and all(value.isdecimal() and int(value) for value in values):
                yield -(-1000 * int(values[0]) // int(values[1])), str(file)


def _cgroups(proc: Path) -> Iterator[tuple[str, str]]:
    """Yield ("v1" or "v2", path) of the cgroups that can limit this process's time on processors."""
    for line in _read(proc / "cgroup").splitlines():
        number, controllers, path = [*line.split(":", 2), "", ""][:3]
        if number == "0" and not controllers:
            yield "v2", path
        elif "cpu" in controllers.split(","):
            yield "v1", path


def _cgroup_mounts(proc: Path) -> Iterator[tuple[str, str, Path]]:
    """Yield ("v1" or "v2", the cgroup at the mount point, the mount point)."""
    for line in _read(proc / "mountinfo").splitlines():
        mount, separator, source = line.partition(" - ")
        fields, described = mount.split(" "), source.split(" ")
        if not separator or len(fields) < 5 or len(described) < 3:
            continue
        root, point = (re.sub(r"\\(\d{3})", lambda code: chr(int(code[1], 8)), field) for field in fields[3:5])
        if described[0] == "cgroup2":
            yield "v2", root, Path(point)
        elif described[0] == "cgroup" and "cpu" in described[2].split(","):
            yield "v1", root, Path(point)


def _below(path: str, root: str) -> PurePosixPath:
    """Return a cgroup's path below the mount point; the mount point itself if the cgroup is not visible there."""
    try:
        below = PurePosixPath(path).relative_to(root)
    except ValueError:
        return PurePosixPath()
    return PurePosixPath() if ".." in below.parts else below


def _up_to(top: Path, below: PurePosixPath) -> Iterator[Path]:
    """Yield a folder and all folders above it up to the top."""
    yield top / below
    yield from (top / parent for parent in below.parents)


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except (OSError, UnicodeDecodeError):
        return ""
