"""Bodies that are damaged, of a wrong type, size or shape, or that claim more than they are."""

from __future__ import annotations

import gzip
import json
import struct
import tracemalloc
from typing import Any

import numpy as np
import pytest

from engine.audio.pcm import wav_header
from engine.errors import InputError
from engine.serving import Limits, bodies
from engine.serving.problems import Problem
from tests.support.serving import JSON, NPY, RAW, VOCODER, WAV, Running, a_mel, connect, npy, request

MEL = a_mel(8)
GZIP = {"Content-Encoding": "gzip"}
LIMITS = Limits(max_seconds=2.0)


def npy_of(header: str, data: bytes = b"", version: bytes = b"\x01\x00") -> bytes:
    text = header.encode().ljust(117) + b"\n"
    return b"\x93NUMPY" + version + struct.pack("<H", len(text)) + text + data


def header(descr: str, shape: str) -> str:
    return f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}"


BAD: dict[str, tuple[bytes, dict[str, str], int, str]] = {
    "no type": (npy(MEL), {}, 415, "Content-Type: expected application/x-npy"),
    "another type": (npy(MEL), {"Content-Type": "text/plain"}, 415, "got 'text/plain'"),
    "empty": (b"", NPY, 400, "expected an .npy file"),
    "not npy": (b"x" * 100, NPY, 400, "body: expected an .npy file, got one that starts with b'xxxxxxxx'"),
    "a gzip file": (gzip.compress(npy(MEL)), NPY, 400, "body: expected an .npy file, got a gzip file; decompress it"),
    "a cut gzip file": (gzip.compress(npy(MEL))[:20], NPY, 400, "got a gzip file; decompress it first"),
    "a compressed body": (
        gzip.compress(npy(MEL)),
        NPY | GZIP,
        415,
        "expected a body that is not compressed, got 'gzip'",
    ),
    "not compressed": (b"", NPY | {"Content-Encoding": "identity"}, 400, "body: expected an .npy file, got no bytes"),
    "a web page": (b"<!DOCTYPE html><html></html>", NPY, 400, "body: expected an .npy file, got a web page"),
    "the magic alone": (npy(MEL)[:6], NPY, 400, "one whose header is damaged or cut off"),
    "half a header": (
        npy(MEL)[:50],
        NPY,
        400,
        "body: expected an .npy file, got one whose header is damaged or cut off",
    ),
    "a header of text": (npy_of("no dict"), NPY, 400, "one whose header is damaged or cut off"),
    "an unknown type": (npy_of(header("'zz'", "(80, 1)")), NPY, 400, "one whose header is damaged or cut off"),
    "cut off": (
        npy(MEL)[:-1],
        NPY,
        400,
        "expected 2560 bytes of data for shape (80, 8), got 2559; the file is cut off",
    ),
    "too long": (npy(MEL) + b"x", NPY, 400, "expected 2560 bytes of data for shape (80, 8), got 2561; something"),
    "claims terabytes": (npy_of(header("'<f4'", "(80, 9999999999)"), bytes(64)), NPY, 400, "got 64"),
    "claims 10^5000": (npy_of(header("'<f4'", "(" + "9" * 60 + ", 80)"), bytes(64)), NPY, 400, "body: expected"),
    "negative shape": (npy_of(header("'<f4'", "(-80, -1)"), bytes(320)), NPY, 400, "body: expected shape"),
    "true in the shape": (npy_of(header("'<f4'", "(True, 80)"), bytes(320)), NPY, 400, "body: expected shape"),
    "many axes": (npy_of(header("'<f4'", "(1, 1, 1, 80, 1)"), bytes(320)), NPY, 400, "body: expected shape"),
    "objects": (npy_of(header("'|O'", "(80, 1)"), b"cos\nsystem\n(S'true'\ntR."), NPY, 400, "got object"),
    "a record": (npy_of(header("[('a', '<f4')]", "(80, 1)"), bytes(320)), NPY, 400, "expected float16"),
    "deep header": (npy_of("(" * 100), NPY, 400, "expected an .npy file"),
    "version 9": (npy_of(header("'<f4'", "(80, 1)"), bytes(320), b"\x09\x00"), NPY, 400, "1.0 or 2.0, got version 9.0"),
    "integers": (npy(np.ones((80, 4), np.int32)), NPY, 400, "expected float16, float32 or float64, got int32"),
    "complex": (npy(np.ones((80, 4), np.complex64)), NPY, 400, "got complex64"),
    "transposed": (npy(MEL.T), NPY, 400, "looks transposed"),
    "another number of bands": (npy(MEL[:40]), NPY, 400, "80 mel bands"),
    "one axis": (npy(MEL[0]), NPY, 400, "mel: expected shape"),
    "no frames": (npy(MEL[:, :0]), NPY, 400, "at least one frame"),
    "a batch": (npy(np.stack([MEL, MEL])), NPY, 400, "mel: expected shape"),
    "nan": (npy(np.where(MEL > 0.9, np.nan, MEL)), NPY, 400, "finite values, got nan"),
    "infinite float64": (npy(MEL.astype(np.float64) * 1e300), NPY, 400, "finite values, got inf"),
    "another kind": (npy(MEL * 8 - 8), NPY, 400, "look like a log mel"),
    "too many frames": (npy(a_mel(5200)), NPY, 413, "at most 60 s of audio"),
    "half a frame": (bytes(330), RAW, 400, "whole frames of 80 float32 values"),
    "not json": (b"{", JSON, 400, "expected JSON"),
    "not utf-8": (b"\xff\xfe{", JSON, 400, "expected JSON"),
    "deep json": (b"[" * 100_000, JSON, 400, "lists"),
    "deep objects": (b'{"a":' * 100_000, JSON, 400, "a few entries"),
    "a list": (b"[1]", JSON, 400, "JSON object"),
    "no mel": (b"{}", JSON, 400, "expected it in the JSON object"),
    "mel of text": (json.dumps({"mel": ["a"] * 20}).encode(), JSON, 400, "list of lists"),
    "null in the mel": (json.dumps({"mel": [[None] * 4] * 80}).encode(), JSON, 400, "expected numbers"),
    "true in the mel": (json.dumps({"mel": [[True] * 4] * 80}).encode(), JSON, 400, "expected numbers"),
    "ragged": (json.dumps({"mel": [[0.5] * 4] * 79 + [[0.5]]}).encode(), JSON, 400, "as many numbers in every band"),
    "nan in json": (b'{"mel": [[NaN]]}', JSON, 400, "expected finite numbers, got NaN"),
    "a great number": (b'{"mel": [[' + b"9" * 400 + b"]]}", JSON, 400, "mel: expected"),
    "an integer of 5000 digits": (b'{"mel": [[' + b"9" * 5000 + b"]]}", JSON, 400, "expected"),
    "unknown entry": (json.dumps({"mel": MEL.tolist(), "sed": 1}).encode(), JSON, 400, "sed: expected one of"),
    "not a wav": (b"RIFFxxxx", WAV, 400, "body: expected a RIFF WAV file"),
    "a cut wav": (wav_header(10_000, 22050) + bytes(50), WAV, 400, "truncated"),
    "a wav of 1 Hz": (wav_header(9000, 1) + bytes(9000), WAV, 400, "at least 1000 Hz"),
    "a short wav": (wav_header(200, 22050) + bytes(200), WAV, 400, "more than 512 samples"),
    "a long wav": (wav_header(2_700_000, 22050) + bytes(2_700_000), WAV, 413, "at most 60 s"),
    "mu-law": (wav_header(9000, 22050).replace(b"\x01\x00\x01\x00", b"\x07\x00\x01\x00") + bytes(9000), WAV, 415, "mu"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_body_is_a_problem(running: Running, name: str) -> None:
    body, headers, status, detail = BAD[name]
    answer = running.post("/v1/vocode", content=body, headers=headers)
    problem = answer.json()
    assert (answer.status_code, problem["status"]) == (status, status), problem
    assert answer.headers["content-type"] == "application/problem+json"
    assert detail in problem["detail"], problem
    assert running.service.slots.is_idle


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ("seed=-1", "seed: expected integers from 0"),
        ("seed=x", "seed: expected an integer"),
        ("seed=" + "9" * 30, "seed: expected"),
        ("steps=7", "steps: expected 1 to 6 or 50"),
        ("steps=fest", "steps: expected an integer"),
        ("precision=int4", "precision: expected one of fp32"),
        ("format=mp3", "format: expected one of s16, f32"),
        ("format=f32", "format: expected s16 for a WAV file"),
        ("stream=2", "stream: expected 0 or 1"),
        ("sed=1", "sed: expected one of the options seed"),
        ("label=1", "label: expected one of the options"),
        ("draft=griffin", "draft: expected 'griffin-lim' or 'rtisi-la', got 'griffin'"),
        ("draft=", "draft: expected 'griffin-lim' or 'rtisi-la', got ''"),
        ("draft=vocos&stream=1", "draft: expected 'rtisi-la' for a stream, got 'vocos'"),
        ("draft=griffin-lim&steps=full", "steps: expected 1 to 6 beside a draft"),
        ("draft=griffin-lim&steps=7", "steps: expected 1 to 6 beside a draft"),
        ("match_mel=0.9", "match_mel: expected the largest gain of a band"),
        ("match_mel=all", "match_mel: expected the largest gain of a band"),
        (
            "draft=griffin-lim&stream=1",
            "draft: expected 'rtisi-la' for a stream, got 'griffin-lim', which needs the whole mel",
        ),
    ],
)
def test_a_bad_option_is_a_problem(running: Running, query: str, detail: str) -> None:
    answer = running.post(f"/v1/vocode?{query}", content=npy(MEL), headers=NPY)
    assert answer.status_code == 400 and detail in answer.json()["detail"], answer.text


@pytest.mark.parametrize(
    ("content", "status", "detail"),
    [
        ({"label": "9"}, 400, "label: "),
        ({"label": True}, 400, "label: expected a number or a name"),
        ({"guidance": "x"}, 400, "guidance: expected a finite number"),
        ({"guidance": 1e9}, 400, "guidance: expected a number from 0"),
        ({"temperature": "hot"}, 400, "temperature: expected a finite number"),
        ({"temperature": 1.1}, 400, "temperature: expected a number from 0 to 1"),
        ({"seconds": 1000}, 413, "at most 60 s"),
        ({"seconds": -1}, 400, "seconds: "),
        ({"n": 5}, 400, "n: expected one of the options"),
    ],
)
def test_a_bad_option_of_generate(running: Running, content: dict[str, Any], status: int, detail: str) -> None:
    answer = running.post("/v1/generate", json=content)
    assert answer.status_code == status and detail in answer.json()["detail"], answer.text


def test_unknown_routes_and_methods(running: Running) -> None:
    missing, wrong = running.get("/v2"), running.get("/v1/vocode")
    assert missing.status_code == 404 and "openapi.json" in missing.json()["detail"]
    assert wrong.status_code == 405 and wrong.headers["allow"] == "POST"


def test_a_claimed_length_is_refused_before_the_body(running: Running) -> None:
    with connect(running, request(b"x", length=1 << 40)) as client:
        assert client.recv(10_000).startswith(b"HTTP/1.1 413 ")


def test_a_lying_header_allocates_nothing() -> None:
    body, _, _, _ = BAD["claims terabytes"]
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match="got 64"):
            bodies.parse_npy(body)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_deep_and_long_json_is_refused_by_its_brackets() -> None:
    body = b'{"mel":[' + b"[]," * 1_000_000 + b"[]]}"
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match="lists"):
            bodies.parse_json_mel(body, VOCODER, LIMITS)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
    with pytest.raises(Problem, match="at most 173 frames"):
        bodies.parse_json_mel(b'{"mel":[[' + b"0," * 200_000 + b"0]]}", VOCODER, LIMITS)


def test_a_recording_of_another_rate(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    body = wav_header(9000, 16000) + bytes(9000)
    monkeypatch.setitem(__import__("sys").modules, "soxr", None)
    answer = running.post("/v1/vocode", content=body, headers=WAV)
    assert answer.status_code == 415 and "expected a WAV file of 22050 Hz, got 16000 Hz" in answer.json()["detail"]
