"""Tests of csrc/cpu without Python: random cases under memory fences and sanitizers, compared to the last bit.

tests/csrc/harness holds the cases. Planted mistakes prove that each check fails when it should.
"""

from __future__ import annotations

import os
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.csrc.building import CSRC, Build, Change, build, needs_compiler, rebuild

pytestmark = needs_compiler

TIERS = ("cpu/isa/generic.cpp", "cpu/isa/avx2.cpp")
SANITIZERS = {
    "address": ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-DDIFFWAVE_FENCE"),
    "thread": ("-fsanitize=thread", "-DDIFFWAVE_FENCE"),
    # Sweeps reuse the memory of earlier ones only without fences.
    "thread, no fences": ("-fsanitize=thread",),
}
CASES = {"address": 100_000, "thread": 30_000, "thread, no fences": 10_000}

# Every other register tile of a thread's rows sums its lanes from the first to the last. The choice depends only on the
# case, not on addresses, which differ between processes. So the case can be repeated.
REORDERED = Change(
    "cpu/output_head.inl",
    "const float eps = sum_lanes(lanes[i - t]) + op.out_bias;",
    """const bool odd = (t - rows.begin) / kRows % 2;
      float sum = odd ? 0.0f : sum_lanes(lanes[i - t]);
      for (int lane = 0; odd && lane < kLanes; ++lane) sum += lanes[i - t][lane];
      const float eps = sum + op.out_bias;""",
)
# A row whose Winograd partner is in another tile uses another order of summation.
ALONE = Change(
    "cpu/residual_block/winograd_fp32.inl",
    "acc[r][0] = load(shared + r * 2 * kWidth) + (load(row) + bias0);",
    """acc[r][0] = pairs[first + r].needed[!half] ? load(shared + r * 2 * kWidth) + (load(row) + bias0)
                                               : (load(shared + r * 2 * kWidth) + load(row)) + bias0;""",
)
NOT_REFLECTED = Change("cpu/sweep.cpp", "if (!network_->reflect) return;", "if (length) return;")
NO_PADDING = Change("cpu/sweep.cpp", "t = -count; t < 0;", "t = -0L; t < 0;")
NO_BARRIER = Change("cpu/sweep.cpp", "tile.rows());\n  team_.barrier();\n", "tile.rows());\n")
FRAME_TOO_FAR = Change("cpu/upsample.cpp", "t - mel.first) * mel.frame_stride", "t + 1 - mel.first) * mel.frame_stride")


def run(harness: Build, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [str(harness.program), *map(str, arguments)]
    options = {"TSAN_OPTIONS": "halt_on_error=1", "UBSAN_OPTIONS": "print_stacktrace=1"}
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | options)


def run_all(harness: Build, cases: int) -> str:
    """Run the cases on all processors and return the printed counts, once all cases have passed."""
    processes = os.cpu_count() or 1
    count = -(-cases // processes)
    with ThreadPoolExecutor(processes) as pool:
        done = list(pool.map(lambda i: run(harness, "--cases", count, "--seed", i * count), range(processes)))
    for process in done:
        assert process.returncode == 0, process.stdout + process.stderr
    return "".join(process.stdout for process in done)


@pytest.fixture(scope="module")
def fenced(tmp_path_factory: pytest.TempPathFactory) -> Build:
    return build(tmp_path_factory.mktemp("fenced"), "-DDIFFWAVE_FENCE")


def test_all_executions_give_the_same_bytes_and_stay_within_their_memory(fenced: Build) -> None:
    print(run_all(fenced, 3000))


@pytest.mark.parametrize(
    ("change", "sources"),
    [(REORDERED, TIERS), (ALONE, TIERS), (NOT_REFLECTED, ["cpu/sweep.cpp"]), (NO_PADDING, ["cpu/sweep.cpp"])],
    ids=["reordered sum", "row without its Winograd partner", "no reflection at the end", "unwritten padding"],
)
def test_a_mistake_changes_bytes(fenced: Build, tmp_path: Path, change: Change, sources: list[str]) -> None:
    harness = rebuild(fenced, tmp_path, change, sources)
    failure = run(harness, "--cases", 1000)
    assert failure.returncode == 1 and "repeat with --case" in failure.stdout, failure.stdout + failure.stderr
    case, tier = failure.stdout.split("repeat with --case ")[1].strip().split(" --tier ")
    repeated = run(harness, "--case", case, "--tier", tier.strip("'"))
    assert repeated.stdout == failure.stdout


def test_an_overrun_hits_the_fence(fenced: Build) -> None:
    assert run(fenced, "--overrun", "piece").returncode == -signal.SIGSEGV


@pytest.mark.parametrize(
    "change", [REORDERED, ALONE, NOT_REFLECTED, NO_PADDING, NO_BARRIER, FRAME_TOO_FAR], ids=lambda change: change.file
)
def test_every_mistake_can_be_planted(change: Change) -> None:
    assert (CSRC / change.file).read_text().count(change.old) == 1


@pytest.fixture(scope="module", params=SANITIZERS)
def sanitizer(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def sanitized(sanitizer: str, tmp_path_factory: pytest.TempPathFactory) -> Build:
    return build(tmp_path_factory.mktemp("sanitized"), *SANITIZERS[sanitizer])


@pytest.mark.sanitize
def test_a_sanitizer_finds_nothing(sanitized: Build, sanitizer: str) -> None:
    print(f"\n{sanitizer}:\n{run_all(sanitized, CASES[sanitizer])}")


@pytest.mark.sanitize
def test_a_sanitizer_finds_a_mistake(sanitized: Build, sanitizer: str, tmp_path: Path) -> None:
    change, source, message = (
        (FRAME_TOO_FAR, "cpu/upsample.cpp", "heap-buffer-overflow")
        if sanitizer == "address"
        else (NO_BARRIER, "cpu/sweep.cpp", "data race")
    )
    failure = run(rebuild(sanitized, tmp_path, change, [source]), "--cases", 1000)
    assert failure.returncode != 0, failure.stdout
    assert message in failure.stderr
