"""The measured cost of converted mels: the mels, the rows, and the committed results."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.committed import load
from benchmarks.figures.conversion import RESULTS, table
from benchmarks.quality.conversion import errors, mels_of, rows_of
from benchmarks.quality.scores import Scores

MELS = ["exact", "converted", "converted from 80 to 7600 Hz", "blurred", "blurred, converted"]


def test_every_mel_has_the_frames_of_the_exact_one() -> None:
    pytest.importorskip("scipy", reason="the blur needs scipy")
    rng = np.random.default_rng(0)
    mels = mels_of((0.1 * rng.standard_normal(4000)).astype(np.float32), 22050, 1)
    assert list(mels) == MELS
    assert all(mel.shape == (80, 16) and mel.dtype == np.float32 for mel in mels.values())
    distances = [errors(mel, mels["exact"], slice(0, 71)) for mel in mels.values()]
    assert distances[0] == 0.0 < distances[1] < distances[2] < distances[3]


def test_rows_are_means_over_the_clips() -> None:
    pytest.importorskip("scipy", reason="the intervals need scipy")
    clips = [{"exact": (Scores(2.0, 0.9, 3.0, 0.5), 0.0, 1.0)}, {"exact": (Scores(3.0, 0.8, 4.0, 0.7), 1.0, 4.0)}]
    [row] = rows_of(clips)
    assert (row["mels"], row["below_8_khz_db"], row["above_8_khz_db"]) == ("exact", 0.5, 2.5)
    assert row["pesq_wb"]["mean"] == 2.5 and row["mos"]["low"] == 3.0
    assert "| exact | 0.5 dB | 2.5 dB | 2.50 (2.00 to 3.00) |" in table([row])


def test_committed_results_are_of_held_out_clips() -> None:
    results = load(RESULTS)
    assert [row["mels"] for row in results["rows"]] == MELS
    assert len(set(results["clips"])) == len(results["clips"]) >= 8
    assert all(clip.endswith("0") for clip in results["clips"])
    assert {"distillmos", "pesq", "pystoi", "numpy"} <= set(results["versions"])
