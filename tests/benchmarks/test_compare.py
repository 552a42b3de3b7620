"""The accuracy gate and the rows of the duel, with audio and seconds that are made up."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks import bench_vocode, duel, peers
from benchmarks.gpu import report as gpu_report

RIGHT = np.random.default_rng(0).standard_normal((1, 1000), dtype=np.float32)
OWN = [duel.Contender(name, name, lambda: RIGHT, lambda: 1e9) for name in (duel.FP32, duel.BF16)]
RIVALS = [
    duel.Contender(duel.EAGER, "fp32", lambda: RIGHT, lambda: 1e9, 3, True, "every step"),
    duel.Contender("other bf16", "bf16", lambda: RIGHT, lambda: 1e9, 3, True),
    duel.Contender("other int8", "int8", lambda: RIGHT, None, 3, True),
]
ALL = [*OWN, *RIVALS]


@pytest.mark.parametrize(("name", "error"), [(duel.FP32, 4e-4), (duel.BF16, 0.05), (duel.EAGER, 4e-4)])
def test_gate_turns_red(name, error):
    audio = {one.name: RIGHT for one in ALL}
    duel.gate(ALL, audio)
    for wrong in (RIGHT * (1 + error), RIGHT * np.nan):
        with pytest.raises(AssertionError, match="against fp32 and differs by"):
            duel.gate(ALL, {**audio, name: wrong})


def test_a_peer_that_fails_is_marked():
    noisy = RIGHT + 0.1 * np.random.default_rng(1).standard_normal(RIGHT.shape, dtype=np.float32)
    found = duel.gate(ALL, {**{one.name: RIGHT for one in ALL}, "other bf16": noisy, "other int8": noisy})
    assert {name: one["passed"] for name, one in found.items()} == {
        duel.FP32: True,
        duel.BF16: True,
        duel.EAGER: True,
        "other bf16": False,
        "other int8": None,  # has no gate
    }
    assert found["other bf16"]["snr_db"] == pytest.approx(20.0, abs=1.0) and found[duel.FP32]["snr_db"] is None


def test_rounds_that_somebody_sits_out_are_not_compared():
    laps, audio = duel.run(ALL, 4)
    assert [sorted(laps[one.name]) for one in ALL] == [[0, 1, 2, 3]] * 2 + [[0, 3]] * 3
    seconds = {duel.EAGER: {0: 8.0, 3: 4.0}, duel.BF16: {0: 1.0, 1: 9.0, 2: 9.0, 3: 2.0}}
    laps |= {name: {n: replace(laps[name][n], seconds=s) for n, s in own.items()} for name, own in seconds.items()}
    rows = {one["contender"]: one for one in duel.rows(ALL, laps, duel.gate(ALL, audio), 1e9, 2.0)}
    assert rows[duel.BF16]["times_eager"]["p50"] == 5.0 and rows[duel.BF16]["audio_seconds"] == 8.0
    assert rows[duel.BF16]["share_of_peak"]["p50"] == pytest.approx((1 / 2 + 1 / 9) / 2)
    assert rows["other int8"]["share_of_peak"] is None and rows["other int8"]["peer"]


def test_another_one_is_first_in_every_round():
    order = []
    contenders = [replace(one, call=lambda one=one: order.append(one.name) or RIGHT) for one in OWN + RIVALS[:1]]
    a, b, c = (one.name for one in contenders)
    duel.run(contenders, 5)
    assert order == [*(a, b, c), *(b, a), *(a, b), *(a, b, c), *(a, b)]


def test_on_a_gpu_a_peer_that_fails_is_marked_and_this_engine_stops_it_all():
    noisy = RIGHT + 0.1 * np.random.default_rng(1).standard_normal(RIGHT.shape, dtype=np.float32)
    own, floors = f"{gpu_report.OWN}fp16", {f"{gpu_report.OWN}fp16": 55.0, "peer": 45.0}

    def rows(**audio):
        names = {gpu_report.FP32: RIGHT, own: audio.get("own", RIGHT), "peer": audio.get("peer", RIGHT), "other": noisy}
        found = [{"contender": n, "conditioner": "once", "audio": one, "laps": [0.1]} for n, one in names.items()]
        return gpu_report.duel_rows(found, 1.0, floors)

    assert [row["passed"] for row in rows()] == [None, True, True, None]
    assert [row["passed"] for row in rows(peer=noisy)] == [None, True, False, None]
    table = gpu_report.Rows()
    table.duels.append({"items": 1, "seconds": 1.0, "rows": rows(peer=noisy)})
    told = {line.split()[0]: "fails its accuracy gate" in line for line in gpu_report.lines(table)[2:]}
    assert told == {"this": False, "peer": True, "other": False}
    for wrong in (noisy, RIGHT * np.nan):
        with pytest.raises(AssertionError, match=r"this engine, fp16: .* dB, at least 55 expected"):
            rows(own=wrong)


def test_nobody_is_measured_in_a_precision_that_would_be_emulated(monkeypatch):
    prepared = []
    monkeypatch.setattr(peers, "prepared", lambda peer, *_: prepared.append(peer.name) or "not installed")
    found, audio, skipped = bench_vocode.rivals(OWN[:1], None, None, 3, True)
    assert not found and not audio and set(skipped) == {peer.name for peer in peers.PEERS}
    assert prepared == [peer.name for peer in peers.PEERS if peer.precision == "fp32"] != []
    assert skipped["OpenVINO bf16"] == "there is no bf16 here, see 'engine doctor'"
