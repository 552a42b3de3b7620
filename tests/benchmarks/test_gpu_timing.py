"""The table of what a GPU measured, with figures that are made up."""

import json

import numpy as np
import pytest
import torch

from benchmarks.gpu import report as gpu_report
from tests.support.paths import ROOT


def test_rows_stand_beside_their_prediction(tmp_path):
    path = tmp_path / "predicted.json"
    cell = {"gpu": "H100", "items": 4, "seconds": 5.0, "precision": "fp16", "network": "BASE"}
    path.write_text(json.dumps({"rows": [{**cell, "predicted_seconds": 0.02}]}))
    rows = gpu_report.Rows()
    rows.append(gpu_report.row("NVIDIA H100 80GB HBM3", "fp16", 4, 5.0, 20.0, [0.01, 0.03, 0.02]))
    rows.append(gpu_report.row("NVIDIA L4", "fp16", 4, 5.0, 20.0, [0.1]))
    rows.peaks = {"bf16_tflops": 790.0, "copy_tbytes": 3.0}
    head, first, second, peaks = gpu_report.lines(rows, path)
    assert first.split()[-4:] == ["20.00", "1000", "20.00", "1.00"]
    assert second.split()[-4:] == ["100.00", "200", "-", "-"]
    assert "790 TFLOP/s" in peaks and "3.00 TB/s" in peaks
    assert rows[0]["rtf"] == 0.001 and rows[0]["measured_seconds"]["p50"] == 0.02
    assert len(head) == len(first) == len(second)


def test_nothing_predicted_is_no_error(tmp_path):
    one = gpu_report.row("NVIDIA H100", "fp16", 1, 1.0, 1.0, [0.01])
    assert gpu_report.predicted(one, tmp_path / "none.json") is None


def test_a_duel_takes_turns_and_says_how_near_everybody_comes(monkeypatch):
    order, audio = [], np.sin(np.arange(1000.0)).astype("f4")
    monkeypatch.setattr(
        gpu_report, "event_seconds", lambda call, warm_up, rounds: call() is None or [0.01 * len(order)]
    )

    def contender(name, scale):
        return name, "once", lambda: order.append(name) or torch.from_numpy(scale * audio)[None]

    found = gpu_report.duel([contender(gpu_report.FP32, 1.0), contender("peer", 1.01)], 3, 3)
    assert order == [gpu_report.FP32, "peer"] * 4  # one call for the audio, three that are timed
    rows = gpu_report.duel_rows(found, 2.0)
    assert [row["snr_db"] for row in rows] == [None, pytest.approx(40.0, abs=0.01)]
    assert rows[0]["measured_seconds"]["p50"] == pytest.approx(0.05) and rows[0]["times_real_time"] == pytest.approx(
        40.0
    )
    table = gpu_report.Rows()
    table.duels.append({"items": 1, "seconds": 2.0, "rows": rows})
    table.absent["other"] = "not installed"
    _, title, first, second, absent = gpu_report.lines(table)
    assert title == "in turns, 1 x 2 s:" and "40.0 x real time" in first and "40.0 dB" in second
    assert absent == "absent: other: not installed"


def test_the_pages_figures_are_those_of_the_committed_run():
    found = json.loads((ROOT / "benchmarks" / "results" / "h100.json").read_text())
    page, readme = (ROOT / "docs" / "gpu.md").read_text(), (ROOT / "README.md").read_text()
    for precision in ("fp16", "bf16", "fp32"):
        rows = [row for row in found["gpu"] if row["precision"] == precision]
        cells = [f"{_short(1e3 * row['measured_seconds']['p50'])} ms, {row['times_real_time']:.0f}x" for row in rows]
        assert f"| {precision} | {' | '.join(cells)} |" in page
    [duel] = found["gpu_duels"]
    ms = {row["contender"]: 1e3 * row["measured_seconds"]["p50"] for row in duel["rows"]}
    for name, value in ms.items():
        assert f"| {_short(value)} |" in page, name
    own = ms["this engine, fp16"]
    assert f"{ms['LMNT, PyTorch eager'] / own:.1f} times LMNT's package" in readme
    assert f"{ms['PyTorch fp16, CUDA graph'] / own:.1f} times PyTorch in fp16 in a CUDA graph" in readme


def _short(ms):
    """Three digits, or all before the point."""
    return f"{ms:.0f}" if ms >= 100 else f"{ms:.1f}" if ms >= 10 else f"{ms:.2f}"
