"""The README's table and the page: made from JSON alone, with figures that are made up."""

from __future__ import annotations

import json
import re

import pytest

from benchmarks import report
from engine.cli.bench.figures import disturbed
from engine.cli.bench.page import html
from engine.cli.bench.plot import Axis, Series, bars, lines


def around(value):
    return {"p20": 0.99 * value, "p50": value, "p80": 1.01 * value}


def row(name, precision, seconds, peer=True, **figures):
    return {
        "contender": name,
        "precision": precision,
        "peer": peer,
        "conditioner": "every step" if peer else "once",
        "rounds": 3,
        "audio_seconds": 12.0,
        "work_seconds": 3 * seconds,
        "seconds": around(seconds),
        "peak_gflops": around(500.0),
        "share_of_peak": around(0.5),
        "times_eager": around(8.0 / seconds),
        **{"error": 2e-6, "snr_db": 120.0, "passed": True, **figures},
    }


def point(axis, value, precision, seconds):
    figures = {"seconds": around(seconds), "rtf": around(seconds), "share_of_peak": around(0.7)}
    return {
        **{"axis": axis, "value": value, "precision": precision, "memory_bytes": 90 << 20, "rounds": 3},
        **{**figures, "peak_gflops": around(500.0)},
    }


@pytest.fixture
def results():
    rows = [
        row("bf16", "bf16", 1.25, peer=False, snr_db=44.0),
        row("fp32", "fp32", 2.5, peer=False, snr_db=None),
        row(report.EAGER, "fp32", 8.0),
        row("OpenVINO bf16", "bf16", 3.0, snr_db=37.0),
        row("rival <bf16>", "bf16", 2.0, snr_db=12.0, passed=False),
        row("OpenVINO int8", "int8", 4.0, snr_db=15.0, passed=None, peak_gflops=None, share_of_peak=None),
    ]
    duels = [{"case": case, "rows": rows, "skipped": {"torch.compile": "no compiler"}} for case in ("4 s", "0.5 s")]
    curves = [
        point(axis, value, precision, value * slower)
        for axis in ("length", "threads", "batch", "steps", "channels")
        for precision, slower in (("bf16", 0.3), ("fp32", 0.6))
        for value in (1, 2)
    ]
    setting = {"network": "BASE (C=64 N=30), the bundled voice", "steps": 6, "threads": 2, "calls": []}
    left_out = {"bf16, 600 s": "about 200 s a call"}
    made = {**report.environment((1.0, 2.0, 3.0)), **setting, "duels": duels, "curves": curves, "accuracy": []}
    return json.loads(json.dumps({**made, "left_out": left_out}, allow_nan=False))


def test_the_table_shows_everybody_once_and_then_the_best(results):
    text = report.markdown(results)
    shown = re.findall(r"^\| (.*? s) \| (.*?) \|", text, re.MULTILINE)
    assert [name for case, name in shown if case == "4 s"] == [one["contender"] for one in results["duels"][0]["rows"]]
    assert [name for case, name in shown if case == "0.5 s"] == ["bf16", "fp32", report.EAGER, "OpenVINO bf16"]
    assert "| 4 s | rival <bf16> | 3 | 1.98 / 2.00 / 2.02 | 0.50 | 2.00 | 50% | 500 | 4.0 | 12* |" in text
    assert "| 3.96 / 4.00 / 4.04 | 1.00 | 1.00 | - | - | 2.0 | 15 |" in text
    assert "fp32 within 2e-06 of PyTorch's peak amplitude, bf16 at 44 dB SNR against fp32" in text
    assert "  torch.compile: not measured: no compiler" in report.section(results)


def test_the_page_holds_every_series_and_nothing_from_outside(results):
    page = report.page(results)
    for one in results["duels"][0]["rows"]:
        assert page.count(one["contender"].replace("<", "&lt;").replace(">", "&gt;")) >= 4, one["contender"]
    assert "<bf16>" not in page
    for title in ("real-time factor", "time of a call", "memory of a call"):
        assert len(re.findall(f"{title} over (length|threads|batch|steps|channels)", page)) == 10  # and in words
    for card in ("A100", "H100", "RTX 4090", "L4"):
        assert card in page
    assert "not measured" in page and "torch.compile: no compiler" in page and "about 200 s a call" in page
    assert "4 s of audio in bf16: 3.20x real time; the fastest peer that passes its gate, OpenVINO bf16" in page
    assert not re.search(r"(?:src|href|url|@import|<script|<link)\b", page.replace("xmlns", ""))
    assert set(re.findall(r"https?://[^\"' ]+", page)) == {"http://www.w3.org/2000/svg"}


def test_curves_alone_make_a_page_and_another_version_none(results):
    alone = {name: value for name, value in results.items() if name != "duels"}
    page = html({**alone, "accuracy": [{"precision": "bf16", "snr_db": 44.0}]})
    assert "Taking turns" not in page and "Predicted" not in page and "memory of a call over batch" in page
    merged = report.page({**results, "curves": []}, results)
    assert "memory of a call over batch" in merged and "Taking turns" in merged
    assert f"A run of its own: {results['date']}" in merged and "of its own:" not in report.page(results)
    with pytest.raises(ValueError, match="schema: expected 2, got 1"):
        html({**results, "schema": 1})


def test_a_busy_machine_is_named(results):
    assert not disturbed(results) and "DISTURBED" not in report.markdown(results)
    results["duels"][1]["rows"][0]["peak_gflops"]["p20"] = 400.0
    assert disturbed(results) and "DISTURBED" in report.markdown(results) and "not quiet" in report.page(results)


def test_a_plot_puts_larger_values_higher_and_further():
    plot = lines("title", Axis("x", log=True), Axis("y"), [Series("a & b", [(1, 5.0), (10, 7.0), (100, 6.0)], "#000")])
    (line,) = re.findall(r'points="(.*?)"', plot)
    places = [tuple(map(float, place.split(","))) for place in line.split()]
    (a, low), (b, high), (c, middle) = places
    assert b - a == pytest.approx(c - b, abs=0.2) and low > middle > high
    assert "a &amp; b" in plot
    drawn = bars("title", "x", [("a", 2.0, "#000"), ("b", 1.0, "#000")])
    long, short = map(float, re.findall(r'width="([\d.]+)" height="17"', drawn))
    assert long == 2 * short


@pytest.mark.parametrize(
    ("axis", "values", "ticks"),
    [
        (Axis("", zero=True), (0.3, 0.9), [0.0, 0.2, 0.4, 0.6, 0.8]),
        (Axis("", log=True), (1, 64), [1, 2, 5, 10, 20, 50]),
        (Axis("", log=True), (0.5, 600), [1, 10, 100]),
        (Axis(""), (3.0, 3.0), [3.0]),
    ],
)
def test_ticks_are_round(axis, values, ticks):
    found = axis.ticks(*axis.range(values))
    assert [tick for tick in found if any(abs(tick - one) < 1e-9 for one in ticks)] == pytest.approx(ticks)
    assert len(found) <= 7
