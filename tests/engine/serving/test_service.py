"""Tokens, origins, networks of a service, and the extra that it needs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

import engine.serving
from engine import InputError, UnavailableError, Voice
from engine.serving import Limits, app
from engine.serving.batches import Batcher
from engine.serving.service import SUBPROTOCOL
from tests.support.serving import (
    JSON,
    NPY,
    PCM,
    PLAIN,
    TIMEOUT,
    VOCODER,
    Running,
    a_mel,
    frames,
    load,
    npy,
    pcm,
    serving,
)

TOKEN = "a-token-of-20-letters"
MEL = a_mel(6)


@pytest.fixture(scope="module")
def guarded(voice: Voice, digits: Voice) -> Iterator[Running]:
    with serving(app(voice, generator=digits, token=TOKEN)) as running:
        yield running


@pytest.mark.parametrize("header", [None, "Bearer", "Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer é"])
def test_a_wrong_token_is_refused(guarded: Running, header: str | None) -> None:
    headers = {} if header is None else {"Authorization": header.encode("latin-1")}
    for method, path in (("post", "/v1/vocode"), ("post", "/v1/generate"), ("get", "/v1/models"), ("get", "/metrics")):
        answer = getattr(guarded, method)(path, headers=headers)
        assert answer.status_code == 401 and answer.headers["www-authenticate"].startswith("Bearer "), path
    with pytest.raises(InvalidStatus) as refused:
        connect(guarded.stream, open_timeout=TIMEOUT, subprotocols=[SUBPROTOCOL]).__enter__()
    assert refused.value.response.status_code == 401


def test_the_right_token(guarded: Running) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    assert guarded.post("/v1/vocode", content=npy(MEL), headers={**NPY, **headers}).status_code == 200
    assert guarded.get("/v1/models", headers=headers).status_code == 200
    for options in ({"additional_headers": headers}, {"subprotocols": [SUBPROTOCOL, f"bearer.{TOKEN}"]}):
        with connect(guarded.stream, open_timeout=TIMEOUT, **options) as client:
            assert client.subprotocol == (SUBPROTOCOL if "subprotocols" in options else None)
            client.send(frames(MEL))
            assert json.loads(client.recv(TIMEOUT))["type"] == "ready"


def test_health_needs_no_token(guarded: Running) -> None:
    assert guarded.get("/healthz").status_code == guarded.get("/readyz").status_code == 200
    assert guarded.get("/openapi.json").json()["security"] == [{"token": []}]


def test_pages_of_other_sites_are_refused(running: Running) -> None:
    answer = running.post("/v1/generate", headers={"Origin": "https://example.org"})
    assert answer.status_code == 403
    assert running.post("/v1/generate?steps=1&seconds=0.01", headers={"Origin": running.url}).status_code == 200


@pytest.mark.parametrize("token", ["short", "a" * 300, "with a space in the text", "mit Umlaut äöü und mehr"])
def test_an_impossible_token(voice: Voice, token: str) -> None:
    with pytest.raises(InputError, match="token: expected 16 to 256 letters"):
        app(voice, token=token)


def test_a_service_that_only_generates(digits: Voice, voice: Voice) -> None:
    with serving(app(digits)) as running:
        assert running.post("/v1/generate?steps=1", headers=PCM).content == pcm(digits.generate(steps=1)[0])
        answer = running.post("/v1/vocode", content=npy(MEL), headers=NPY)
        assert answer.status_code == 501 and "/v1/generate" in answer.json()["detail"]
        assert [model["kind"] for model in running.get("/v1/models").json()["models"]] == ["generator"]
    with serving(app(voice)) as running:
        assert running.post("/v1/generate").status_code == 501
    with pytest.raises(InputError, match="generator: expected a network without a mel"):
        app(digits, generator=voice)
    with pytest.raises(InputError, match="generator: expected None"):
        app(digits, generator=digits)


def test_precisions(voice: Voice, tmp_path: Path) -> None:
    other = load(tmp_path, VOCODER, isa="generic")
    with serving(app(voice, precisions={"other": other}, steps=2)) as running:
        vocoded = running.post("/v1/vocode?precision=other", content=npy(MEL), headers={**NPY, **PCM})
        assert vocoded.content == pcm(other.vocode(MEL, steps=2))
        assert running.get("/v1/models").json()["models"][0]["precisions"] == ["fp32", "other"]
    with pytest.raises(InputError, match=r"precisions\['x'\]: expected the network of the voice"):
        app(voice, precisions={"x": load(tmp_path, PLAIN)})


def test_a_prior_needs_its_energy(tmp_path: Path) -> None:
    prior = load(tmp_path, replace(VOCODER, n_mels=79, prior=True, family="priorgrad"))
    mel = a_mel(6)[:79]
    with pytest.raises(InputError, match="energy_min: a PriorGrad network"):
        app(prior)
    with serving(app(prior, energy_min=0.1)) as running:
        answer = running.post("/v1/vocode", content=npy(mel), headers={**NPY, **PCM})
    assert answer.content == pcm(prior.vocode(mel, energy_min=0.1))


def test_calls_on_a_gpu_go_through_the_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    voice = load(tmp_path, VOCODER)
    voice.choice = replace(voice.choice, device="cuda")  # it is still on the CPU
    sizes = []
    plain = Batcher._run_batch

    async def run_batch(self: Batcher, batch: Any) -> None:
        sizes.append(len(batch))
        await plain(self, batch)

    monkeypatch.setattr(Batcher, "_run_batch", run_batch)
    voice_on_cpu = load(tmp_path, VOCODER)
    with serving(app(voice, limits=Limits(slots=4))) as running:
        for stream in (0, 1):
            answer = running.post(f"/v1/vocode?seed=3&stream={stream}", content=npy(MEL), headers={**NPY, **PCM})
            assert answer.content == pcm(voice_on_cpu.vocode(MEL, seed=3))
        assert not running.get("/v1/models").json()["models"][0]["streams"]
        answer = running.post("/v1/vocode?seed=3&draft=griffin-lim", content=npy(MEL), headers={**NPY, **PCM})
        assert answer.content == pcm(voice_on_cpu.vocode(MEL, seed=3, draft="griffin-lim"))
    assert sizes == [1, 1, 1]


def test_a_failure_shows_no_details(voice: Voice, caplog: pytest.LogCaptureFixture) -> None:
    def fail(**options: Any) -> None:
        raise RuntimeError("secret")

    with serving(app(voice)) as running:
        vars(voice)["open_stream"] = fail
        try:
            answer = running.post("/v1/vocode", content=npy(MEL), headers={**NPY, "X-Request-Id": "find-me"})
        finally:
            del vars(voice)["open_stream"]
        assert answer.status_code == 500 and "secret" not in answer.text
        assert running.post("/v1/vocode", content=npy(MEL), headers=NPY).status_code == 200
    assert "find-me /v1/vocode failed" in caplog.text and "secret" in caplog.text


def test_a_failure_outside_of_a_call(voice: Voice, monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    with serving(app(voice)) as running:
        monkeypatch.setattr(running.service, "models", lambda: 1 / 0)
        answer = running.get("/v1/models")
    assert answer.status_code == 500 and answer.json()["title"] == "Internal Server Error"
    assert "/v1/models failed" in caplog.text and "ZeroDivisionError" in caplog.text


def test_an_answer_that_fails_half_way_is_broken_off(voice: Voice) -> None:
    import httpx

    plain = voice.open_stream

    def open_stream(**options: Any) -> Any:
        stream = plain(**options)

        def last_chunks() -> Any:
            raise RuntimeError("broken")
            yield np.zeros(0, np.float32)

        stream.last_chunks = last_chunks  # type: ignore[method-assign]
        return stream

    with serving(app(voice)) as running:
        vars(voice)["open_stream"] = open_stream
        try:
            with pytest.raises(httpx.RemoteProtocolError):
                running.post("/v1/vocode?stream=1&steps=1", content=npy(a_mel(300)), headers=NPY)
        finally:
            del vars(voice)["open_stream"]


@pytest.mark.parametrize("package", engine.serving.PACKAGES)
def test_a_missing_package_names_the_extra(voice: Voice, monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UnavailableError, match=rf"needs {package}, which is not installed; pip install .*serve\]"):
        app(voice)


def test_json_of_the_models_is_strict(running: Running) -> None:
    json.loads(running.get("/v1/models").text, parse_constant=lambda name: pytest.fail(name))
    assert JSON["Content-Type"] == running.get("/v1/models").headers["content-type"]
