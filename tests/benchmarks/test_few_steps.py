"""Rows, lines and the table of fewer steps, from known times."""

from __future__ import annotations

import pytest

from benchmarks.cpu.compare import Timing
from benchmarks.cpu.few_steps import cells, lines, rows
from benchmarks.figures.steps import few_steps

# Three rounds; a neighbor slows the second one down by half. Three steps take 0.55 of the time of six.
TIMINGS = {
    6: {0: Timing(2.0, 1e9), 1: Timing(3.0, 1e9), 2: Timing(2.0, 1e9)},
    3: {0: Timing(1.1, 1e9), 1: Timing(1.65, 1e9), 2: Timing(1.1, 1e9)},
    1: {0: Timing(0.5, None), 1: Timing(0.5, None), 2: Timing(0.5, None)},
}


def test_fewer_steps_are_compared_within_a_round() -> None:
    table = rows("4 s", "int8", TIMINGS, 2e8, 4.0)
    assert [row["steps"] for row in table] == [6, 3, 1]
    six, three, one = table
    assert six["times_most"]["p50"] == six["times_most"]["p20"] == 1.0
    assert [three["times_most"][name] for name in ("p20", "p80")] == pytest.approx([2.0 / 1.1] * 2)
    assert one["times_most"]["p50"] == 4.0 and one["times_most"]["p80"] > 4.0
    assert six["share_of_peak"]["p50"] == pytest.approx(6 * 2e8 / 2.0 / 1e9)
    assert three["share_of_peak"]["p50"] == pytest.approx(3 * 2e8 / 1.1 / 1e9)
    assert one["share_of_peak"] is None and one["peak_gflops"] is None and six["peak_gflops"]["p50"] == 2.0
    assert (six["audio_seconds"], six["work_seconds"], six["rounds"]) == (12.0, 7.0, 3)
    assert cells(three) == ("4 s", "int8", "3", "1.100", "3.12", "55%", "1.82")
    assert cells(one)[-2:] == ("-", "4.00")


def test_the_lines_name_the_steps_of_every_row() -> None:
    text = lines(rows("4 s", "int8", TIMINGS, 2e8, 4.0) + rows("4 s", "fp32", TIMINGS, 2e8, 4.0))
    assert [line.split()[3] for line in text[2:]] == ["6", "3", "1"] * 2 and "x 6 steps" in text[1]
    assert len({len(line) for line in text[1:]}) == 1 and lines([]) == []


def test_the_table_of_a_result() -> None:
    results = {
        **{"date": "2026-12-01T00:00:00+00:00", "commit": "abc", "threads": 2, "machine": {"cpu": "X"}, "steps": 6},
        "few_steps": rows("4 s", "int8", TIMINGS, 2e8, 4.0),
    }
    text = few_steps(results, "some-file")
    assert "| 4 s | int8 | 3 | 1.100 | 3.12 | 55% | 1.82 |" in text and "| times 6 steps |" in text
    assert "3 rounds, 2 threads of X, 2026-12-01, commit abc ([results](benchmarks/results/some-file.json))." in text
    with pytest.raises(ValueError, match=r"some-file: expected rows of bench_steps\.py, got none"):
        few_steps({**results, "few_steps": []}, "some-file")
