"""The table of what a GPU measured, with figures that are made up."""

import json

import gpu_report


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
