"""csrc/cpu without Python: random cases in fenced memory, and under sanitizers (`make sanitize`)."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from csrc.building import CSRC, build

KINDS = {"operation", "composed", "tiled", "streamed", "split", "abandoned", "together"}
SANITIZED = {"address,undefined": 80_000, "thread": 20_000}  # cases
SECONDS = 1500  # of each sanitizer, at most: on two idle processors they take 10 and 5 minutes


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("plain"))


def run(harness: Path, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    line = [str(harness), *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, env={**os.environ, **environment}, timeout=2 * SECONDS)


def counted(done: subprocess.CompletedProcess[str]) -> dict[str, int]:
    """How many cases of each kind there were; fails unless all passed."""
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    counts = {name: int(number) for name, number in re.findall(r" ([a-z]+) (\d+)", done.stdout.partition(":")[2])}
    assert set(counts) == KINDS
    return counts


def test_random_cases_in_fenced_memory(harness: Path) -> None:
    counts = counted(run(harness, "--cases", 2000, "--seed", 1))
    assert sum(counts.values()) == 2000 and min(counts.values()) > 50


def test_the_fence_notices_an_overrun(harness: Path) -> None:
    assert run(harness, "--overrun", "piece").returncode == -11  # SIGSEGV


# The control: rows in the second half of a ring sum in the other direction, so that bytes depend on the tiling.
ORDER = "  for (int k = 0; k < inputs; k += kGroup<E>) {\n"
OTHER_ORDER = """\
  const bool backwards = (reinterpret_cast<uintptr_t>(x) / (12 * sizeof(E) * static_cast<unsigned long>(stride))) % 2;
  if (backwards) weight += (inputs / kGroup<E> - 1) * V * kWidth * kGroup<E>;
  for (int forth = 0; forth < inputs; forth += kGroup<E>) {
    const int k = backwards ? inputs - kGroup<E> - forth : forth;
"""
STEP = "    weight += V * kWidth * kGroup<E>;\n"
OTHER_STEP = "    weight += (backwards ? -1 : 1) * V * kWidth * kGroup<E>;\n"


def test_another_order_of_a_reduction_is_noticed(tmp_path: Path) -> None:
    shutil.copytree(CSRC / "cpu", tmp_path / "csrc" / "cpu")
    file = tmp_path / "csrc" / "cpu" / "matmul.inl"
    text = file.read_text()
    assert text.count(ORDER) == text.count(STEP) == 1
    file.write_text(text.replace(ORDER, OTHER_ORDER).replace(STEP, OTHER_STEP))
    changed = build(tmp_path, csrc=tmp_path / "csrc")
    done = run(changed, "--cases", 200, "--seed", 1)
    assert done.returncode == 1 and "repeat with --case" in done.stdout, done.stdout


@pytest.mark.sanitize
@pytest.mark.parametrize("sanitizer", SANITIZED)
def test_sanitizers_find_nothing(tmp_path: Path, sanitizer: str) -> None:
    """Two processes, so that both processors are used."""
    options = ["-fno-sanitize-recover=all"] if "undefined" in sanitizer else []
    harness = build(tmp_path, f"-fsanitize={sanitizer}", *options)

    if "address" in sanitizer:  # the control: signals are allocated in their exact size
        assert "heap-buffer-overflow" in run(harness, "--overrun", "signal").stderr

    def half(seed: int) -> dict[str, int]:
        settings = {"ASAN_OPTIONS": "detect_leaks=1:halt_on_error=1", "TSAN_OPTIONS": "halt_on_error=1"}
        return counted(
            run(harness, "--cases", SANITIZED[sanitizer] // 2, "--seed", seed, "--seconds", SECONDS, **settings)
        )

    with ThreadPoolExecutor(2) as pool:
        halves = list(pool.map(half, (1, 10**9)))
    total = sum(sum(counts.values()) for counts in halves)
    print(f"{sanitizer}: {total} cases, {halves}")
    assert total == SANITIZED[sanitizer], f"{total} cases within {SECONDS} s: the machine is slow or busy"
