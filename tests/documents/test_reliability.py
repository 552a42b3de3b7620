"""RELIABILITY.md and the picture of streams say what the committed run of the benchmark says; its paths exist."""

from __future__ import annotations

import json
import re
import statistics

import pytest

from benchmarks import stream_plot
from tests.support.paths import ROOT

PAGE, RESULTS = ROOT / "RELIABILITY.md", ROOT / "benchmarks" / "results" / "streams-zen3-2-cores.json"

if not PAGE.exists():
    pytest.skip("RELIABILITY.md is not beside the tests", allow_module_level=True)

TEXT, FOUND = PAGE.read_text(), json.loads(RESULTS.read_text())


def one(**wanted: object) -> dict[str, object]:
    (row,) = [row for row in FOUND["streams"] if all(row.get(key) == value for key, value in wanted.items())]
    return row


def test_what_streaming_costs() -> None:
    (table,) = [row["rows"] for row in FOUND["streams"] if "rows" in row]
    ratios = {row["contender"]: row["times_vocode"]["p50"] for row in table}
    for name, words in (
        ("stream, whole mel", "stream of the whole mel"),
        ("stream, pieces of 1", "stream, one frame at a time"),
        ("stream, pieces of 16", "stream, 16 frames at a time"),
    ):
        assert f"| {words} | {ratios[name]:.2f} |" in TEXT


@pytest.mark.parametrize("steps", [6, 2])
def test_when_audio_comes(steps: int) -> None:
    row = one(source="paced", steps=f"{steps} steps")
    (line,) = [line for line in TEXT.splitlines() if re.match(rf"\| {steps}\b.* s", line)]
    waits = f"| {row['underruns']}, {row['waited_ms'] / 1000:.1f} s in all |"
    assert f" {row['first_audio_ms'] / 1000:.2f} s" in line and waits in line
    assert f"| {row['vocode_ms'] / 1000:.1f} s |" in line


def test_how_fast_a_stream_is_cancelled() -> None:
    laps = {row["threads"]: row["cancelled_ms"] for row in FOUND["streams"] if "cancelled_ms" in row}
    told = [f"{statistics.median(laps[n]):.0f} ms in the\nmedian and {max(laps[n]):.0f} at most" for n in (1, 2)]
    assert " ".join(told[0].split()) in " ".join(TEXT.split())
    assert f"{statistics.median(laps[2]):.0f} and {max(laps[2]):.0f} with 2" in TEXT


def test_the_picture_is_of_that_run() -> None:
    assert (ROOT / "docs" / "streaming.svg").read_text() == stream_plot.svg(FOUND)


def test_what_it_names_exists() -> None:
    for path in re.findall(r"(?:tests|benchmarks|docs)/[\w/.-]+\.(?:py|json|svg|md)", TEXT):
        assert (ROOT / path).exists(), path
