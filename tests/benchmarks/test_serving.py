"""The load test of the service, against a small network."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import httpx
import pytest

from benchmarks import committed, piper
from benchmarks.figures import serving as figures
from benchmarks.serving import call, call_piper, latencies, main, overload
from engine.serving import Limits, app
from tests.support.serving import VOCODER, a_mel, load, npy, serving


def test_latencies_and_overload(tmp_path: Path) -> None:
    body = npy(a_mel(20))
    with serving(app(load(tmp_path, VOCODER), limits=Limits(slots=1, queue=1))) as running:
        row = latencies(partial(call, url=running.url, body=body), clients=1, requests=3)
        assert (row["clients"], row["requests"], row["refused"]) == (1, 3, 0)
        assert 0 < row["first_audio"]["median"] <= row["total"]["median"] <= row["total"]["longest"]
        crowd = overload(running.url, body, clients=4, seconds=0.5)
    assert crowd["accepted"] >= 1 and crowd["other"] == crowd["different_bytes"] == 0


def test_the_whole_run_and_its_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service in a process of its own, with random weights."""
    path = tmp_path / f"{figures.FILE}.json"
    small = ["--channels", "16", "--layers", "2", "--requests", "1", "--overload-seconds", "1", "--queue", "2"]
    main([*small, "--results", str(path)])
    run = json.loads(path.read_text())["serving"]
    assert [(row["server"], row["clients"]) for row in run["rows"]] == [("engine", count) for count in (1, 2, 4, 8)]
    assert run["overload"]["accepted"] and run["overload"]["other"] == run["overload"]["different_bytes"] == 0
    monkeypatch.setattr(committed, "RESULTS", tmp_path)
    text = figures.latencies()
    assert text.count("| engine serve |") == 4 and "Piper" not in text and "and 0 of the accepted" in text


@pytest.mark.slow
def test_pipers_server_speaks(tmp_path: Path) -> None:
    for package in ("piper", "flask", "onnx", "onnxruntime"):
        pytest.importorskip(package)
    piper.write_voice(tmp_path / "random.onnx")
    with piper.server(tmp_path / "random.onnx") as url:
        row = latencies(partial(call_piper, url=url), clients=1, requests=1)
        with httpx.Client(timeout=60) as client:
            assert 2 < piper.seconds_of(call_piper(client, url).audio) < 6
    assert row["refused"] == 0 and 0 < row["first_audio"]["median"] <= row["total"]["median"]
