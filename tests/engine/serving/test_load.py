"""A service under load: a full queue, clients that leave, stall, trickle or read slowly, and memory."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from engine import Voice
from engine.serving import server
from tests.support.serving import NPY, PCM, TIMEOUT, Running, a_mel, blocked, connect, npy, pcm, request, watched

LONG = npy(a_mel(3000))
SHORT = npy(a_mel(4))


def counted(running: Running, code: int, route: str = "/v1/vocode") -> int:
    line = f'diffwave_requests_total{{route="{route}",code="{code}"}} '
    text = running.get("/metrics").text
    return next((int(row.removeprefix(line)) for row in text.splitlines() if row.startswith(line)), 0)


def test_eight_at_once_on_one_slot_and_a_queue_of_two(running: Running, voice: Voice) -> None:
    answers: list[httpx.Response] = []

    def post() -> None:
        answers.append(running.post("/v1/vocode?steps=1", content=SHORT, headers={**NPY, **PCM}))

    with ThreadPoolExecutor(8) as clients, blocked(running.service):
        for _ in range(8):
            clients.submit(post)
        running.wait_until(lambda service: len(answers) == 5)
        assert (running.service.slots.working, running.service.slots.waiting) == (1, 2)
    assert sorted(answer.status_code for answer in answers) == [200] * 3 + [429] * 5
    expected = pcm(voice.vocode(a_mel(4), steps=1))
    for answer in answers:
        if answer.status_code == 200:
            assert answer.content == expected
        else:
            assert 1 <= int(answer.headers["retry-after"]) <= 600
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json()["title"] == "Too Many Requests" and "queue is full" in answer.json()["detail"]


@pytest.mark.parametrize("stream", ["0", "1"])
def test_a_client_that_leaves_frees_its_slot(running: Running, voice: Voice, stream: str) -> None:
    before = counted(running, 499)
    with watched(voice) as streams:
        with connect(running, request(LONG, f"steps=full&stream={stream}")):
            running.wait_until(lambda service: bool(streams and streams[0].samples))
        running.wait_until_idle()
    assert 0 < streams[0].samples < 3000 * 256, "the work went on"
    running.wait_until(lambda service: counted(running, 499) == before + 1)


def test_a_client_that_leaves_the_queue_frees_its_place(running: Running) -> None:
    with ThreadPoolExecutor(1) as clients, blocked(running.service):
        first = clients.submit(running.post, "/v1/vocode?steps=1", content=SHORT, headers=NPY)
        running.wait_until(lambda service: service.slots.working == 1)
        with connect(running, request(SHORT)):
            running.wait_until(lambda service: service.slots.waiting == 1)
        running.wait_until(lambda service: service.slots.waiting == 0)
        assert not first.done()
    assert first.result().status_code == 200


def test_a_generated_sound_is_cancelled(running: Running) -> None:
    done = threading.Event()
    plain = running.service.generator.generate  # type: ignore[union-attr]

    def generate(**options: object) -> object:
        try:
            return plain(**options)  # type: ignore[call-overload]
        finally:
            done.set()

    vars(running.service.generator)["generate"] = generate
    try:
        query = "label=1&seconds=50&steps=full"
        with connect(running, f"POST /v1/generate?{query} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n".encode()):
            running.wait_until(lambda service: service.slots.working == 1)
        running.wait_until_idle()
        assert done.wait(TIMEOUT)
    finally:
        del vars(running.service.generator)["generate"]
    running.wait_until(lambda service: counted(running, 499, "/v1/generate") == 1)


def test_a_half_sent_body_of_a_client_that_leaves(running: Running) -> None:
    before = counted(running, 499)
    with connect(running, request(LONG[:5000], length=len(LONG))):
        running.wait_until(lambda service: service.bodies.held == 5000)
    running.wait_until(lambda service: service.bodies.held == 0)
    assert counted(running, 499) == before + 1


def test_a_half_sent_body_of_a_client_that_stalls(running: Running) -> None:
    with connect(running, request(SHORT[:100], length=len(SHORT))) as client:
        answer = client.recv(10_000)
    assert answer.startswith(b"HTTP/1.1 408 ") and running.service.bodies.held == 0


@pytest.mark.parametrize("start", [b"", b"POST /v1/vocode HT"])
@pytest.mark.parametrize("second", [False, True], ids=["first request", "second request"])
def test_headers_that_do_not_arrive(
    running: Running, monkeypatch: pytest.MonkeyPatch, start: bytes, second: bool
) -> None:
    monkeypatch.setattr(server, "HEADER_SECONDS", 0.2)
    with connect(running, b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n" if second else start) as client:
        if second:
            assert client.recv(10_000).startswith(b"HTTP/1.1 200 ")
            client.sendall(start or b"G")
        while client.recv(10_000):  # until the service closes
            pass


def test_a_reader_that_stops_is_dropped(running: Running, voice: Voice) -> None:
    before = counted(running, 499)
    with (
        watched(voice) as streams,
        connect(running, request(LONG, "steps=1&stream=1&format=f32"), receive_buffer=1 << 13) as client,
    ):
        assert client.recv(1)
        running.wait_until_idle()
        running.wait_until(lambda service: counted(running, 499) == before + 1)
    assert streams[0].samples < 3000 * 256, "all of the audio waited in memory"


def test_audio_comes_before_the_end_of_the_work(running: Running, voice: Voice) -> None:
    with (
        httpx.Client(timeout=TIMEOUT) as client,
        client.stream(
            "POST",
            f"{running.url}/v1/vocode?stream=1&steps=1&format=f32",
            content=LONG,
            headers={**NPY, **PCM},
        ) as answer,
    ):
        parts = answer.iter_raw()
        first = next(parts)
        # Outbox and buffers hold less than the audio, so the work cannot be complete before more is read.
        assert running.service.slots.working == 1 and 0 < len(first) < 3000 * 256 * 4
        audio = first + b"".join(parts)
    assert audio == voice.vocode(a_mel(3000), steps=1).tobytes()


def test_bodies_share_a_budget(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running.service.bodies, "limits", _with_total(running, 7000))
    with connect(running, request(SHORT + bytes(5000), length=20_000)):
        running.wait_until(lambda service: service.bodies.held > 5000)
        answer = running.post("/v1/vocode", content=npy(a_mel(10)), headers=NPY)
        assert answer.status_code == 429 and "too many bodies" in answer.json()["detail"]


def _with_total(running: Running, total: int) -> object:
    return replace(running.service.limits, total_body_bytes=total, body_seconds=60.0)


@pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="reads /proc")
def test_two_hundred_requests_in_flat_memory(running: Running) -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    with httpx.Client(timeout=TIMEOUT) as client:

        def post(count: int) -> None:
            for seed in range(count):
                query = f"seed={seed}&steps=1&stream={seed % 2}"
                answer = client.post(f"{running.url}/v1/vocode?{query}", content=SHORT, headers=NPY)
                assert answer.status_code == 200
                assert client.post(f"{running.url}/v1/vocode", content=b"no", headers=NPY).status_code == 400

        post(20)
        before = resident()
        post(200)
        growth = resident() - before
    assert growth < 8 << 20, f"{growth} bytes"


def test_work_has_a_limit(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running.service, "limits", replace(running.service.limits, work_seconds=0.05))
    answer = running.post("/v1/vocode?steps=full", content=LONG, headers=NPY)
    assert answer.status_code == 503 and "took longer than 0.05 s" in answer.json()["detail"]
    running.wait_until_idle()


def test_a_closed_port_is_an_error(running: Running) -> None:
    with pytest.raises(ValueError, match=rf"port: cannot listen on 127.0.0.1:{running.port}: "):
        server.listen("127.0.0.1", running.port)
