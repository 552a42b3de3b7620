"""The benchmark of threads beside busy processes; it runs without measuring anything."""

from __future__ import annotations

import multiprocessing

import pytest

from benchmarks.cpu import contention


def test_every_number_of_threads_has_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    contention.main(["--threads", "1", "2", "--busy", "0", "1", "--rounds", "1", "--frames", "2"])
    title, *rows = capsys.readouterr().out.splitlines()
    assert title.split()[:3] == ["busy", "threads", "seconds"]
    assert [row.split()[:2] for row in rows] == [["0", "1"], ["0", "2"], ["1", "1"], ["1", "2"]]
    assert all(row.split()[3] == "1.00" for row in rows if row.split()[1] == "1")


def test_busy_processes_end_with_the_block() -> None:
    before = set(multiprocessing.active_children())
    with pytest.raises(KeyError), contention.busy_processes(2):
        assert len(set(multiprocessing.active_children()) - before) == 2
        raise KeyError
    assert set(multiprocessing.active_children()) == before
