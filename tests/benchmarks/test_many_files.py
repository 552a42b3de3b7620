"""The benchmark of many files runs, and its block shows what it wrote."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.cpu import many_files
from benchmarks.figures import many_files as figures


def test_results_become_a_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "many-files.json"
    many_files.main(["--files", "2", "--frames", "3", "--rounds", "1", "--tiny", "3", "--results", str(path)])
    results = json.loads(path.read_text())
    printed = capsys.readouterr().out.splitlines()
    assert [(row["workers"], row["threads"]) for row in results["many_files"]["rows"]] == [(1, 1), (1, 2), (2, 2)]
    assert len(printed) == 5 and printed[-1].startswith("overhead: ")
    monkeypatch.setattr(figures, "load", lambda name: results)
    block = figures.workers().splitlines()
    assert block[0] == "| workers | threads together | files per second | x real time | efficiency |"
    assert (
        block[2].endswith("| 100% |")
        and "2 mels of 3 frames" in block[-1]
        and "Overhead of a job of 3 files" in block[-1]
    )


def test_the_cost_of_a_job_divides_by_the_number_of_processors() -> None:
    assert [figures.hours(speed) for speed in (2.0, 64.0, 250.0, 5000.0)] == ["500", "16", "4.0", "0.20"]
    zen4 = next(line for line in figures.cost().splitlines() if line.startswith("| Zen 4"))
    cells = [cell.strip() for cell in zen4.split("|")[1:-1]]
    assert abs(float(cells[2]) / float(cells[3]) - 8) < 0.2 and cells[5:] == ["", ""]
