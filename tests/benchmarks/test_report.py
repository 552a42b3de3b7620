"""The Markdown table and the HTML page, from artificial figures."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from benchmarks import report
from benchmarks.committed import EAGER
from engine.cli.bench.figures import disturbed
from engine.cli.bench.page import html


def around(value: float) -> dict[str, float]:
    return {"p20": 0.99 * value, "p50": value, "p80": 1.01 * value}


def row(name: str, precision: str, seconds: float, baseline: bool = True, **figures: Any) -> dict[str, Any]:
    return {
        "contender": name,
        "precision": precision,
        "peer": baseline,
        "conditioner": "every step" if baseline else "once",
        "rounds": 3,
        "audio_seconds": 12.0,
        "work_seconds": 3 * seconds,
        "seconds": around(seconds),
        "peak_gflops": around(500.0),
        "share_of_peak": around(0.5),
        "times_eager": around(8.0 / seconds),
        **{"error": 2e-6, "snr_db": 120.0, "passed": True, **figures},
    }


def point(axis: str, value: float, precision: str, seconds: float) -> dict[str, Any]:
    figures = {"seconds": around(seconds), "rtf": around(seconds), "share_of_peak": around(0.7)}
    return {
        **{"axis": axis, "value": value, "precision": precision, "memory_bytes": 90 << 20, "rounds": 3, "steps": 3},
        **{**figures, "peak_gflops": around(500.0)},
    }


@pytest.fixture
def results() -> dict[str, Any]:
    rows = [
        row("bf16", "bf16", 1.25, baseline=False, snr_db=44.0),
        row("fp32", "fp32", 2.5, baseline=False, snr_db=None),
        row(EAGER, "fp32", 8.0),
        row("OpenVINO bf16", "bf16", 3.0, snr_db=37.0),
        row("other <bf16>", "bf16", 2.0, snr_db=12.0, passed=False),
        row("OpenVINO int8", "int8", 4.0, snr_db=15.0, passed=None, peak_gflops=None, share_of_peak=None),
    ]
    comparisons = [
        {"case": case, "rows": rows, "skipped": {"torch.compile": "no compiler"}} for case in ("4 s", "0.5 s")
    ]
    curves = [
        point(axis, value, precision, value * slower)
        for axis in ("length", "threads", "batch", "steps", "channels")
        for precision, slower in (("bf16", 0.3), ("fp32", 0.6))
        for value in (1, 2)
    ]
    setting = {"network": "BASE (C=64 N=30), the bundled voice", "steps": 6, "threads": 2, "calls": []}
    left_out = {"bf16, 600 s": "about 200 s a call"}
    parts = {"duels": comparisons, "curves": curves, "accuracy": [], "left_out": left_out}
    loaded: dict[str, Any] = json.loads(
        json.dumps({**report.environment((1.0, 2.0, 3.0)), **setting, **parts}, allow_nan=False)
    )
    return loaded


def test_the_first_comparison_is_shown_in_full(results: dict[str, Any]) -> None:
    text = report.markdown(results)
    shown = re.findall(r"^\| (.*? s) \| (.*?) \|", text, re.MULTILINE)
    assert [name for case, name in shown if case == "4 s"] == [row["contender"] for row in results["duels"][0]["rows"]]
    assert [name for case, name in shown if case == "0.5 s"] == ["bf16", "fp32", EAGER, "OpenVINO bf16"]
    assert "| 4 s | other <bf16> | 6 | 3 | 1.98 / 2.00 / 2.02 | 0.50 | 2.00 | 50% | 500 | - | 12* |" in text
    assert "| 3.96 / 4.00 / 4.04 | 1.00 | 1.00 | - | - | 2.0 | 15 |" in text
    assert (
        "Worst accuracy measured: fp32 within 2e-06 of PyTorch's peak amplitude, bf16 44 dB. Required: fp32 within "
        "3e-04, bf16 35 dB, baselines in bf16 25 dB; baselines in int8 are not gated."
    ) in text
    assert "Share of peak: " in text and "Share of peak: " not in report.markdown(results, explained=False)
    assert "Share of peak: " in report.legend()
    assert "  torch.compile: not measured: no compiler" in report.section(results)


def test_the_page_shows_every_series_and_loads_nothing(results: dict[str, Any]) -> None:
    page = report.page(results)
    for entry in results["duels"][0]["rows"]:
        name = entry["contender"].replace("<", "&lt;").replace(">", "&gt;")
        assert page.count(name) >= 4, name
    assert "<bf16>" not in page
    for title in ("real-time factor", "time of a call", "memory of a call"):
        assert len(re.findall(f"{title} over (length|threads|batch|steps|channels)", page)) == 10  # and in words
    for card in ("A100", "H100", "RTX 4090", "L4"):
        assert card in page
    assert "not measured" in page and "torch.compile: no compiler" in page and "about 200 s a call" in page
    headline = (
        "4 s of audio in bf16, 6 steps: 3.20x real time; the fastest baseline that passes its accuracy gate, "
        "OpenVINO bf16"
    )
    assert headline in page
    assert not re.search(r"(?:src|href|url|@import|<script|<link)\b", page.replace("xmlns", ""))
    assert set(re.findall(r"https?://[^\"' ]+", page)) == {"http://www.w3.org/2000/svg"}


def test_every_row_names_its_steps(results: dict[str, Any]) -> None:
    page = report.page(results)
    assert len(re.findall(r"<td>(?:bf16|fp32)</td><td>3</td><td>", page)) == 20  # points
    assert len(re.findall(r"<td>6</td><td>(?:once|every step)</td>", page)) == 12  # entries
    for row in results["duels"][0]["rows"]:
        row["steps"] = 4
    assert len(re.findall(r"<td>4</td><td>(?:once|every step)</td>", report.page(results))) == 6
    assert "4 s of audio in bf16, 4 steps: " in report.page(results)
    assert "| 4 s | bf16 | 4 | 3 | " in report.markdown(results)
    lead = html({name: value for name, value in results.items() if name != "duels"})
    assert "1 s of audio in bf16, 3 steps: " in lead


def test_curves_need_no_comparison(results: dict[str, Any]) -> None:
    alone = {name: value for name, value in results.items() if name != "duels"}
    page = html({**alone, "accuracy": [{"precision": "bf16", "snr_db": 44.0}]})
    assert "measured in turns" not in page and "Predicted" not in page and "memory of a call over batch" in page
    merged = report.page({**results, "curves": []}, results)
    assert "memory of a call over batch" in merged and "measured in turns" in merged
    assert f"From another run: {results['date']}" in merged and "another run" not in report.page(results)
    with pytest.raises(ValueError, match="schema: expected 2, got 1"):
        html({**results, "schema": 1})


def test_a_disturbed_run_is_marked(results: dict[str, Any]) -> None:
    assert not disturbed(results) and "Disturbed" not in report.markdown(results)
    results["duels"][1]["rows"][0]["peak_gflops"]["p20"] = 400.0
    assert disturbed(results) and "- Disturbed: " in report.markdown(results)
    assert "not quiet" in report.page(results)
