"""The accuracy gate and the rows of a comparison, with artificial audio and times."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from benchmarks.committed import EAGER
from benchmarks.cpu import baselines, bench_vocode, compare

RIGHT = np.random.default_rng(0).standard_normal((1, 1000), dtype=np.float32)
OWN = [compare.Entry(name, name, lambda: RIGHT, lambda: 1e9) for name in (compare.FP32, compare.BF16)]
BASELINES = [
    compare.Entry(EAGER, "fp32", lambda: RIGHT, lambda: 1e9, 3, True, "every step"),
    compare.Entry("other bf16", "bf16", lambda: RIGHT, lambda: 1e9, 3, True),
    compare.Entry("other int8", "int8", lambda: RIGHT, None, 3, True),
]
ALL = [*OWN, *BASELINES]


@pytest.mark.parametrize(("name", "error"), [(compare.FP32, 4e-4), (compare.BF16, 0.05), (EAGER, 4e-4)])
def test_the_accuracy_gate_rejects_wrong_audio(name: str, error: float) -> None:
    audio = {entry.name: RIGHT for entry in ALL}
    compare.gate(ALL, audio)
    for wrong in (RIGHT * (1 + error), RIGHT * np.nan):
        with pytest.raises(AssertionError, match="against fp32 and differs by"):
            compare.gate(ALL, {**audio, name: wrong})


def test_failing_baseline_is_marked() -> None:
    noisy = RIGHT + 0.1 * np.random.default_rng(1).standard_normal(RIGHT.shape, dtype=np.float32)
    audio = {**{entry.name: RIGHT for entry in ALL}, "other bf16": noisy, "other int8": noisy}
    accuracy = compare.gate(ALL, audio)
    assert {name: row["passed"] for name, row in accuracy.items()} == {
        compare.FP32: True,
        compare.BF16: True,
        EAGER: True,
        "other bf16": False,
        "other int8": None,  # has no gate
    }
    assert accuracy["other bf16"]["snr_db"] == pytest.approx(20.0, abs=1.0)
    assert accuracy[compare.FP32]["snr_db"] is None


def test_speedup_uses_shared_rounds_only() -> None:
    timings, audio = compare.run(ALL, 4)
    assert [sorted(timings[entry.name]) for entry in ALL] == [[0, 1, 2, 3]] * 2 + [[0, 3]] * 3
    seconds = {EAGER: {0: 8.0, 3: 4.0}, compare.BF16: {0: 1.0, 1: 9.0, 2: 9.0, 3: 2.0}}
    for name, times in seconds.items():
        timings[name] = {n: replace(timings[name][n], seconds=value) for n, value in times.items()}
    rows = {row["contender"]: row for row in compare.rows(ALL, timings, compare.gate(ALL, audio), 1e9, 2.0)}
    assert rows[compare.BF16]["times_eager"]["p50"] == 5.0 and rows[compare.BF16]["audio_seconds"] == 8.0
    assert rows[compare.BF16]["share_of_peak"]["p50"] == pytest.approx((1 / 2 + 1 / 9) / 2)
    assert rows["other int8"]["share_of_peak"] is None and rows["other int8"]["peer"]


def test_order_rotates() -> None:
    order: list[str] = []

    def recorded(entry: compare.Entry) -> compare.Entry:
        return replace(entry, call=lambda: order.append(entry.name) or RIGHT)  # type: ignore[func-returns-value]

    entries = [recorded(entry) for entry in OWN + BASELINES[:1]]
    a, b, c = (entry.name for entry in entries)
    compare.run(entries, 5)
    assert order == [*(a, b, c), *(b, a), *(a, b), *(a, b, c), *(a, b)]


def test_emulated_precision_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    names: list[str] = []
    monkeypatch.setattr(baselines, "prepare", lambda baseline, *_: names.append(baseline.name) or "not installed")
    task: Any = None
    entries, audio, skipped = bench_vocode.baseline_entries(OWN[:1], task, task, 3, True)
    assert not entries and not audio and set(skipped) == {baseline.name for baseline in baselines.BASELINES}
    assert names == [baseline.name for baseline in baselines.BASELINES if baseline.precision == "fp32"] != []
    assert skipped["OpenVINO bf16"] == "there is no bf16 here, see 'engine doctor'"
