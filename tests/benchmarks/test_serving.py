"""The load test of the service, against a small network."""

from __future__ import annotations

from pathlib import Path

from benchmarks.serving import latencies, overload
from engine.serving import Limits, app
from tests.support.serving import VOCODER, a_mel, load, npy, serving


def test_latencies_and_overload(tmp_path: Path) -> None:
    body = npy(a_mel(20))
    with serving(app(load(tmp_path, VOCODER), limits=Limits(slots=1, queue=1))) as running:
        row = latencies(running.url, body, clients=1, requests=3)
        assert (row["clients"], row["requests"], row["refused"]) == (1, 3, 0)
        assert 0 < row["first_audio"]["median"] <= row["total"]["median"] <= row["total"]["longest"]
        crowd = overload(running.url, body, clients=4, seconds=0.5)
    assert crowd["accepted"] >= 1 and crowd["other"] == crowd["different_bytes"] == 0
