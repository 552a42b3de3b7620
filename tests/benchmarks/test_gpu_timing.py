"""The rows of a GPU comparison and the report of a GPU run, with artificial figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.gpu import report, timing

RIGHT = np.random.default_rng(0).standard_normal((1, 1000), dtype=np.float32)
NOISY = RIGHT + 0.1 * np.random.default_rng(1).standard_normal(RIGHT.shape, dtype=np.float32)
FP16 = f"{timing.ENGINE}fp16"


def unused() -> Any:
    raise AssertionError("not called")


def test_failing_baseline_is_marked_and_failing_engine_raises() -> None:
    floors = {FP16: 55.0, "baseline": 45.0}

    def rows(own: Any = RIGHT, baseline: Any = RIGHT) -> list[dict[str, Any]]:
        audio = {timing.FP32: RIGHT, FP16: own, "baseline": baseline, "other": NOISY}
        timed = [timing.Timed(timing.Entry(name, "once", unused), value, [0.1]) for name, value in audio.items()]
        return timing.comparison_rows(timed, 1.0, floors)

    assert [row["passed"] for row in rows()] == [None, True, True, None]
    assert [row["passed"] for row in rows(baseline=NOISY)] == [None, True, False, None]
    table = timing.Rows()
    table.comparisons.append({"items": 1, "seconds": 1.0, "rows": rows(baseline=NOISY)})
    marked = {line.split()[0]: "fails its accuracy gate" in line for line in report.lines(table)[2:]}
    assert marked == {"this": False, "baseline": True, "other": False}
    for wrong in (NOISY, RIGHT * np.nan):
        with pytest.raises(AssertionError, match=r"this engine, fp16: expected an SNR of at least 55 dB, got "):
            rows(own=wrong)


def test_rows_stand_beside_their_prediction(tmp_path: Path) -> None:
    path = tmp_path / "predicted.json"
    cell = {"gpu": "H100", "items": 4, "seconds": 5.0, "precision": "fp16", "network": "BASE"}
    path.write_text(json.dumps({"rows": [{**cell, "predicted_seconds": 0.02}]}))
    rows = timing.Rows()
    rows.append(timing.row("NVIDIA H100 80GB HBM3", "fp16", 4, 5.0, 20.0, [0.01, 0.03, 0.02]))
    rows.append(timing.row("NVIDIA L4", "fp16", 4, 5.0, 20.0, [0.1]))
    rows.peaks = {"bf16_tflops": 790.0, "copy_tbytes": 3.0}
    head, first, second, peaks = report.lines(rows, path)
    assert first.split()[-4:] == ["20.00", "1000", "20.00", "1.00"]
    assert second.split()[-4:] == ["100.00", "200", "-", "-"]
    assert "790 TFLOP/s" in peaks and "3.00 TB/s" in peaks
    assert rows[0]["rtf"] == 0.001 and rows[0]["measured_seconds"]["p50"] == 0.02
    assert len(head) == len(first) == len(second)


def test_missing_prediction_is_no_error(tmp_path: Path) -> None:
    row = timing.row("NVIDIA H100", "fp16", 1, 1.0, 1.0, [0.01])
    assert report.predicted(row, tmp_path / "none.json") is None


def test_entries_alternate(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    audio = np.sin(np.arange(1000.0)).astype("f4")

    def event_seconds(call: Any, warm_up: int, rounds: int) -> list[float]:
        call()
        return [0.01 * len(order)]

    monkeypatch.setattr(timing, "event_seconds", event_seconds)

    def entry(name: str, scale: float) -> timing.Entry:
        def call() -> torch.Tensor:
            order.append(name)
            return torch.from_numpy(scale * audio)[None]

        return timing.Entry(name, "once", call)

    timed = timing.compare([entry(timing.FP32, 1.0), entry("baseline", 1.01)], 3, 3)
    assert order == [timing.FP32, "baseline"] * 4  # one call for the audio, three timed ones
    rows = timing.comparison_rows(timed, 2.0)
    assert [row["snr_db"] for row in rows] == [None, pytest.approx(40.0, abs=0.01)]
    assert rows[0]["measured_seconds"]["p50"] == pytest.approx(0.05)
    assert rows[0]["times_real_time"] == pytest.approx(40.0)
    table = timing.Rows()
    table.comparisons.append({"items": 1, "seconds": 2.0, "rows": rows})
    table.absent["other"] = "not installed"
    _, title, first, second, absent = report.lines(table)
    assert title == "comparison (engines alternate), 1 x 2 s:"
    assert "40.0 x real time" in first and "40.0 dB" in second
    assert absent == "absent: other: not installed"
