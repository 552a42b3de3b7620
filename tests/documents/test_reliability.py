"""RELIABILITY.md shows the figures of the committed run of the benchmark; the paths that it names exist."""

from __future__ import annotations

import json
import re
import statistics
from typing import Any

import pytest

from tests.support.paths import ROOT

PAGE, RESULTS = ROOT / "RELIABILITY.md", ROOT / "benchmarks" / "results" / "streams-zen3-2-cores.json"

if not PAGE.exists():
    pytest.skip("RELIABILITY.md is not beside the tests", allow_module_level=True)

TEXT, STREAMS = PAGE.read_text(), json.loads(RESULTS.read_text())["streams"]
LATENCIES = (("first_audio_ms", 2), ("waited_ms", 1), ("vocode_ms", 1))  # with their decimals, in seconds


def run(**values: object) -> dict[str, Any]:
    (row,) = [row for row in STREAMS if all(row.get(key) == value for key, value in values.items())]
    return dict(row)


def test_streaming_cost() -> None:
    (table,) = [row["rows"] for row in STREAMS if "rows" in row]
    ratios = {row["contender"]: row["times_vocode"]["p50"] for row in table}
    for name, words in (
        ("stream, whole mel", "stream of the whole mel"),
        ("stream, pieces of 1", "stream, one frame at a time"),
        ("stream, pieces of 16", "stream, 16 frames at a time"),
    ):
        assert f"| {words} | 6 | {ratios[name]:.2f} |" in TEXT


@pytest.mark.parametrize("steps", [6, 2])
def test_streaming_latency(steps: int) -> None:
    row = run(source="paced", steps=f"{steps} steps")
    first, waiting, call = (f"{row[key] / 1000:.{n}f} s" for key, n in LATENCIES)
    assert f"| {steps} | {first} | {row['underruns']} | {waiting} | {call} |" in TEXT


@pytest.mark.parametrize("threads", [1, 2])
def test_time_to_cancel(threads: int) -> None:
    (times,) = [row["cancelled_ms"] for row in STREAMS if "cancelled_ms" in row and row["threads"] == threads]
    assert f"| {threads} | 6 | {statistics.median(times):.0f} ms | {max(times):.0f} ms |" in TEXT


def test_paths_exist() -> None:
    paths = re.findall(r"(?:tests|benchmarks|docs)/[\w/.-]+\.(?:py|json|svg|md)", TEXT)
    assert len(paths) > 10
    for path in paths:
        assert (ROOT / path).exists(), path


def test_named_tests_exist() -> None:
    sources = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    for name in re.findall(r"`(test_\w+)`", TEXT):
        assert f"def {name}(" in sources, name
