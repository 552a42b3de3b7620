"""Warnings of the items of several jobs at once."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from engine.bulk import vocode_files
from engine.bulk.recorded import recorded_warnings
from tests.engine.bulk.jobs import Job
from tests.support.commands import MEL


def in_thread(work: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_threads_record_their_own_warnings_and_restore_the_filters() -> None:
    entered, left = threading.Event(), threading.Event()
    texts: dict[str, list[str]] = {}

    def second() -> None:
        with recorded_warnings() as texts["second"]:
            entered.set()
            assert left.wait(60)
            for _ in range(2):
                warnings.warn("of the second", UserWarning, stacklevel=1)

    before = warnings.showwarning, list(warnings.filters)
    with recorded_warnings() as texts["first"]:
        warnings.warn("of the first", UserWarning, stacklevel=1)
        thread = in_thread(second)
        assert entered.wait(60)
    with pytest.warns(UserWarning, match="of neither"):
        warnings.warn("of neither", UserWarning, stacklevel=1)
    left.set()
    thread.join()
    assert texts == {"first": ["of the first"], "second": ["of the second"] * 2}
    assert (warnings.showwarning, list(warnings.filters)) == before


def test_jobs_in_threads_leave_the_filters_as_they_were(
    job: Job, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    np.save(tmp_path / "a.npy", np.where(MEL > 0.5, 1.1, MEL).astype(np.float32))
    before = warnings.showwarning, list(warnings.filters)
    counts: list[int] = []

    def run(folder: Path) -> None:
        counts.append(vocode_files(tmp_path / "a.npy", folder, model=job.model, device="cpu").warnings)

    threads = [in_thread(lambda number=number: run(tmp_path / str(number))) for number in range(4)]  # type: ignore[misc]
    for thread in threads:
        thread.join()
    assert counts == [1] * 4 and (warnings.showwarning, list(warnings.filters)) == before
