"""The benchmark of drafts on few frames, and its table."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import committed
from benchmarks.cpu import drafts
from benchmarks.figures import steps as figures


def test_a_run_and_its_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / f"{figures.DRAFTS}.json"
    drafts.main(["--rounds", "1", "--frames", "6", "--results", str(path)])
    run = json.loads(path.read_text())["drafts"]
    names = [row["name"] for row in run["rows"]]
    assert names == [name for name, _ in drafts.CALLS] + drafts.ALONE
    assert run["rows"][0]["times_six"] == 1.0 and all(row["seconds"] > 0 for row in run["rows"])
    assert len(capsys.readouterr().out.splitlines()) == len(names)
    monkeypatch.setattr(committed, "RESULTS", tmp_path)
    text = figures.drafts()
    assert all(f"| {name} |" in text for name in names) and "6 frames" in text
