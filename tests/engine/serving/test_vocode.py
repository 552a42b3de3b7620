"""POST /v1/vocode and the other routes of HTTP: every way gives the bytes of the library."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pytest

import engine
from engine import Voice
from engine.audio.griffin_lim import griffin_lim
from engine.audio.pcm import wav_header
from engine.serving import Limits, app
from engine.serving.options import VOCODE
from tests.support.serving import (
    JSON,
    NPY,
    PCM,
    RAW,
    VOCODER,
    WAV,
    Running,
    a_mel,
    frames,
    load,
    npy,
    pcm,
    serving,
)

MEL = a_mel(30)
RECORDING = pcm(0.3 * np.sin(np.arange(9000, dtype=np.float32) / 9))


@pytest.fixture(scope="module")
def expected(voice: Voice) -> bytes:
    return pcm(voice.vocode(MEL, seed=5, steps=3))


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (npy(MEL), NPY),
        (npy(MEL), RAW),
        (npy(np.asfortranarray(MEL)), NPY),
        (npy(MEL[None].astype(np.float64)), NPY),
        (frames(MEL), RAW),
        (json.dumps({"mel": MEL.tolist()}).encode(), JSON),
    ],
    ids=["npy", "npy without a type", "fortran", "float64", "raw", "json"],
)
@pytest.mark.parametrize("stream", ["0", "1"])
@pytest.mark.parametrize("form", ["wav", "pcm"])
def test_every_way_gives_the_bytes_of_vocode(
    running: Running, expected: bytes, body: bytes, headers: dict[str, str], stream: str, form: str
) -> None:
    accept = {"Accept": f"audio/{form}"}
    answer = running.post(f"/v1/vocode?seed=5&steps=3&stream={stream}", content=body, headers={**headers, **accept})
    assert answer.status_code == 200, answer.text
    assert answer.content == (wav_header(len(expected), 22050) if form == "wav" else b"") + expected
    assert answer.headers["content-type"].startswith(f"audio/{form}")
    assert (answer.headers["x-sample-rate"], answer.headers["x-seed"]) == ("22050", "5")
    assert ("content-length" in answer.headers) == (stream == "0")
    assert {"queue", "parse"} <= {part.partition(";")[0] for part in answer.headers["server-timing"].split(", ")}


def test_options_may_stand_in_the_json_object(running: Running, expected: bytes) -> None:
    content = json.dumps({"mel": MEL.tolist(), "seed": 5, "steps": 3, "stream": True})
    assert running.post("/v1/vocode", content=content, headers={**JSON, **PCM}).content == expected


def test_samples_may_be_floats(running: Running, voice: Voice) -> None:
    answer = running.post("/v1/vocode?format=f32&seed=5", content=npy(MEL), headers={**NPY, **PCM})
    assert answer.content == voice.vocode(MEL, seed=5).tobytes()


@pytest.mark.parametrize("steps", [None, 1, "fast"])
def test_a_draft(running: Running, voice: Voice, steps: int | str | None) -> None:
    expected = pcm(voice.vocode(MEL, seed=5, steps=steps, draft="griffin-lim"))
    query = "draft=griffin-lim&seed=5" + ("" if steps is None else f"&steps={steps}")
    answer = running.post(f"/v1/vocode?{query}", content=npy(MEL), headers={**NPY, **PCM})
    assert answer.status_code == 200 and answer.content == expected, answer.text
    if steps is None:
        content = json.dumps({"mel": MEL.tolist(), "draft": "griffin-lim", "seed": 5})
        assert running.post("/v1/vocode", content=content, headers={**JSON, **PCM}).content == expected


@pytest.mark.parametrize("stream", [0, 1])
def test_a_draft_in_a_stream(running: Running, voice: Voice, stream: int) -> None:
    expected = pcm(voice.vocode(MEL, seed=5, draft="rtisi-la", match_mel=1))
    query = f"draft=rtisi-la&match_mel=1&seed=5&stream={stream}"
    answer = running.post(f"/v1/vocode?{query}", content=npy(MEL), headers={**NPY, **PCM})
    assert answer.status_code == 200 and answer.content == expected, answer.text


def test_matching_the_mel(running: Running, voice: Voice) -> None:
    for text, gain in (("1", 1.0), ("inf", math.inf)):
        for stream in (0, 1):
            query = f"seed=5&match_mel={text}&stream={stream}"
            answer = running.post(f"/v1/vocode?{query}", content=npy(MEL), headers={**NPY, **PCM})
            assert answer.content == pcm(voice.vocode(MEL, seed=5, match_mel=gain)), answer.text
    content = json.dumps({"mel": MEL.tolist(), "match_mel": 1.5, "draft": "griffin-lim"})
    answer = running.post("/v1/vocode", content=content, headers={"Content-Type": "application/json", **PCM})
    assert answer.content == pcm(voice.vocode(MEL, draft="griffin-lim", match_mel=1.5)), answer.text


def test_the_steps_of_the_service_are_not_those_of_a_draft(voice: Voice) -> None:
    with serving(app(voice, steps="full")) as running:
        answer = running.post("/v1/vocode?draft=griffin-lim", content=npy(MEL), headers={**NPY, **PCM})
    assert answer.content == pcm(voice.vocode(MEL, draft="griffin-lim")), answer.text


def test_a_draft_has_bounds_of_its_own(voice: Voice, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(app(voice, limits=Limits(baseline_seconds=0.3))) as running:
        assert running.get("/v1/models").json()["limits"]["griffin_lim_seconds"] == 0.3
        answer = running.post("/v1/vocode?draft=griffin-lim", content=npy(MEL), headers=NPY)
        assert answer.status_code == 413
        detail = answer.json()["detail"]
        assert detail.startswith("body: expected at most 0.3 s of audio for Griffin-Lim, got 0.3 s")
        assert detail.endswith("; split it, or take the draft 'rtisi-la'")
        for query in ("", "?draft=rtisi-la"):
            assert running.post(f"/v1/vocode{query}", content=npy(MEL), headers=NPY).status_code == 200
    monkeypatch.setattr(engine.voice.draft, "MOST_FRAMES", 20)
    with serving(app(voice)) as running:
        answer = running.post("/v1/vocode?draft=griffin-lim", content=npy(MEL), headers=NPY)
        assert answer.status_code == 400 and "draft: expected at most 20 frames" in answer.json()["detail"]
        assert running.post("/v1/vocode?draft=rtisi-la", content=npy(MEL), headers=NPY).status_code == 200


def test_a_prior_takes_no_draft(tmp_path: Path) -> None:
    prior = load(tmp_path, replace(VOCODER, n_mels=79, prior=True, family="priorgrad"))
    with serving(app(prior, energy_min=0.1)) as running:
        assert running.get("/v1/models").json()["models"][0]["drafts"] == []
        answer = running.post("/v1/vocode?draft=griffin-lim", content=npy(MEL[:79]), headers=NPY)
    assert answer.status_code == 400 and answer.json()["detail"].startswith("draft: PriorGrad's noise is not white")


def test_a_recording_is_analyzed(running: Running, voice: Voice) -> None:
    body = wav_header(len(RECORDING), 22050) + RECORDING
    samples = np.frombuffer(RECORDING, "<i2").astype(np.float32) / np.float32(32768)
    mel = engine.mel(samples, 22050)
    expected = pcm(voice.vocode(mel, seed=1))
    assert running.post("/v1/vocode?seed=1", content=body, headers={**WAV, **PCM}).content == expected
    analyzed = running.post("/v1/mel", content=body, headers=WAV)
    assert analyzed.content == frames(mel) and analyzed.headers["x-mel-frames"] == str(mel.shape[1])


def test_generate(running: Running, digits: Voice) -> None:
    expected = pcm(digits.generate(label="1", seed=3, steps=6)[0])
    answer = running.post("/v1/generate", json={"label": "1", "seed": 3, "steps": 6})
    assert answer.status_code == 200 and answer.content == wav_header(len(expected), 16000) + expected
    assert running.post("/v1/generate?label=1&seed=3&steps=6", headers=PCM).content == expected
    shorter = running.post("/v1/generate?label=1&seed=3&steps=6&seconds=0.05&guidance=1", headers=PCM)
    assert shorter.content == pcm(digits.generate(label="1", seed=3, steps=6, seconds=0.05, guidance=1.0)[0])
    cooler = running.post("/v1/generate", json={"label": "1", "seed": 3, "steps": 6, "temperature": 0.5}, headers=PCM)
    assert cooler.content == pcm(digits.generate(label="1", seed=3, steps=6, temperature=0.5)[0]) != expected


def test_griffin_lim_of_the_same_mel(running: Running) -> None:
    answer = running.post("/v1/griffin-lim", content=npy(MEL), headers={**NPY, **PCM})
    assert answer.content == pcm(griffin_lim(MEL, 22050))


def test_models_health_and_metrics(running: Running) -> None:
    models = running.get("/v1/models").json()
    vocoder, generator = models["models"]
    assert vocoder["kind"] == "vocoder" and vocoder["mel"] == {"bands": 80, "kind": "lmnt", "hop": 256}
    assert vocoder["drafts"] == ["griffin-lim", "rtisi-la"] and vocoder["draft_steps"] == 6
    assert 6 in vocoder["steps"] and vocoder["precisions"] == ["fp32"] and vocoder["streams"]
    assert generator["classes"] == ["0 ann", "0 ben", "1 ann"] and generator["labels"] == ["0", "1"]
    assert running.get("/healthz").text == "ok\n" and running.get("/readyz").text == "ready\n"
    text = running.get("/metrics").text
    assert "\ndiffwave_slots 1\n" in text and 'diffwave_requests_total{route="/v1/vocode",code="200"}' in text
    assert '\ndiffwave_first_audio_seconds_bucket{le="+Inf"}' in text
    for line in text.splitlines():
        assert line.startswith("# ") or (len(line.rsplit(" ", 1)) == 2 and float(line.rsplit(" ", 1)[1]) >= 0)


def test_the_description_has_every_route(running: Running) -> None:
    described = running.get("/openapi.json").json()
    assert described["openapi"].startswith("3.1") and "/v1/vocode" in described["paths"]
    names = {option["name"] for option in described["paths"]["/v1/vocode"]["post"]["parameters"]}
    assert names == set(VOCODE)
    for path, methods in described["paths"].items():
        for method in methods:
            assert httpx.request(method, running.url + path, timeout=60).status_code != 404, path


def test_a_request_has_an_id(running: Running) -> None:
    answer = running.post("/v1/vocode", content=npy(MEL), headers={**NPY, "X-Request-Id": "mine-7"})
    assert answer.headers["x-request-id"] == "mine-7"
    other = running.post("/v1/vocode", content=b"", headers={**NPY, "X-Request-Id": "a\tb" + "c" * 80})
    assert other.headers["x-request-id"] != "mine-7" and len(other.headers["x-request-id"]) == 16
    assert other.json()["instance"] == f"urn:request:{other.headers['x-request-id']}"
