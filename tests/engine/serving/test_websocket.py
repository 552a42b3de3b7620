"""WS /v1/stream: the bytes of the library, the order of messages, close codes, and slots that become free."""

from __future__ import annotations

import json
import socket
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from engine import Voice
from engine.serving import Limits, app
from tests.support.serving import TIMEOUT, VOCODER, Running, a_mel, blocked, frames, load, pcm, serving, watched

MEL = a_mel(60)
END = json.dumps({"type": "end"})


def opened(running: Running, **options: Any) -> ClientConnection:
    return connect(running.stream, max_size=None, open_timeout=TIMEOUT, close_timeout=TIMEOUT, **options)


def received(client: ClientConnection) -> tuple[bytes, list[dict[str, Any]]]:
    """Return the samples and the objects until the service closes."""
    audio, objects = b"", []
    try:
        while True:
            message = client.recv(TIMEOUT)
            if isinstance(message, bytes):
                audio += message
            else:
                objects.append(json.loads(message))
    except ConnectionClosed:
        return audio, objects


def closing(running: Running, messages: Sequence[bytes | str]) -> tuple[int, str]:
    """Send messages, and return the close code and its reason."""
    with opened(running) as client:
        try:
            for message in messages:
                client.send(message)
        except ConnectionClosed:
            pass
        received(client)
    assert client.close_code is not None
    return client.close_code, str(client.close_reason)


@pytest.mark.parametrize("size", [1, 7, 60])
@pytest.mark.parametrize("form", ["s16", "f32"])
def test_pieces_of_any_size_give_the_bytes_of_vocode(running: Running, voice: Voice, size: int, form: str) -> None:
    audio = voice.vocode(MEL, seed=5, steps=3)
    with opened(running) as client:
        client.send(json.dumps({"seed": 5, "steps": 3, "format": form}))
        for begin in range(0, 60, size):
            client.send(frames(MEL[:, begin : begin + size]))
        client.send(b"")
        client.send(END)
        samples, (ready, done) = received(client)
    assert samples == (pcm(audio) if form == "s16" else audio.tobytes())
    assert ready == {"type": "ready", "sample_rate": 22050, "format": form, "seed": 5}
    assert done["type"] == "done" and done["samples"] == len(audio) and done["work_seconds"] > 0
    assert client.close_code == 1000


def test_a_draft(running: Running, voice: Voice) -> None:
    with opened(running) as client:
        client.send(json.dumps({"seed": 5, "draft": "rtisi-la", "match_mel": 1}))
        for begin in range(0, 60, 7):
            client.send(frames(MEL[:, begin : begin + 7]))
        client.send(END)
        assert received(client)[0] == pcm(voice.vocode(MEL, seed=5, draft="rtisi-la", match_mel=1))


def test_without_options(running: Running, voice: Voice) -> None:
    with opened(running) as client:
        client.send(frames(MEL))
        client.send(END)
        assert received(client)[0] == pcm(voice.vocode(MEL))


def test_audio_comes_before_the_mel_is_complete(running: Running, voice: Voice) -> None:
    mel = a_mel(400)
    with opened(running) as client:
        client.send(json.dumps({"steps": 1}))
        client.send(frames(mel[:, :300]))
        assert json.loads(client.recv(TIMEOUT))["type"] == "ready"
        first = client.recv(TIMEOUT)
        assert isinstance(first, bytes) and 0 < len(first) < 300 * 256 * 2
        client.send(frames(mel[:, 300:]))
        client.send(END)
        assert first + received(client)[0] == pcm(voice.vocode(mel, steps=1))


def test_ten_thousand_tiny_messages(running: Running) -> None:
    with opened(running) as client:
        client.send(json.dumps({"steps": 1}))
        for _ in range(9_990):
            client.send(b"")
        for begin in range(10):
            client.send(frames(MEL[:, begin : begin + 1]))
        client.send(END)
        audio, objects = received(client)
    assert len(audio) == 10 * 256 * 2 and objects[-1]["type"] == "done"


@pytest.mark.parametrize(
    ("messages", "code", "reason"),
    [
        ([b"abc"], 1007, "whole frames of 80 float32"),
        ([frames(MEL), b"abc"], 1007, "whole frames of 80 float32"),
        ([frames(MEL * float("nan"))], 1007, "finite"),
        ([frames(MEL * 50)], 1007, "wants 'lmnt' mels"),
        (["{"], 1007, "expected JSON"),
        (["[1]"], 1007, "JSON object"),
        (['{"sed": 1}'], 1007, "sed: expected one of the options"),
        (['{"draft": "griffin-lim"}'], 1007, "draft: expected 'rtisi-la' for a stream"),
        (['{"seed": -1}'], 1007, "seed: expected integers from 0"),
        (['{"steps": 7}'], 1007, "steps: "),
        (['{"precision": "int8"}'], 1007, "precision: expected one of fp32"),
        (["[" * 3000], 1007, "expected JSON"),
        (['{"seed": 1' + " " * 5000 + "}"], 1007, "at most 4096 characters"),
        ([END], 1007, "at least one frame"),
        (['{"type": "start", "steps": 1}'], 1007, "type: expected options, end or cancel, got 'start'"),
        ([json.dumps({"seed": 1}), json.dumps({"seed": 2})], 1007, "expected frames"),
        ([frames(MEL), END, frames(MEL)], 1007, "no frames after the end"),
        ([frames(MEL), '{"type": "other"}'], 1007, "end or cancel"),
        ([frames(a_mel(6000))], 1008, "at most 60 s"),
        ([bytes(320 * 20_000)], 1009, "expected at most 4194304 bytes"),
        ([frames(MEL), json.dumps({"type": "cancel"})], 1000, "cancelled"),
        ([json.dumps({"type": "cancel"})], 1000, ""),
    ],
)
def test_close_codes(running: Running, messages: list[bytes | str], code: int, reason: str) -> None:
    got = closing(running, messages)
    assert got[0] == code and reason in got[1], got
    running.wait_until_idle()


def test_busy(running: Running) -> None:
    with ExitStack() as stack:
        clients = [stack.enter_context(opened(running)) for _ in range(3)]
        with blocked(running.service):
            for client in clients:
                client.send(frames(MEL))
            running.wait_until(lambda service: service.slots.waiting == 2)
            code, reason = closing(running, [frames(MEL)])
            assert code == 1013 and reason.startswith("busy; connect again in ")
            clients[2].close()
            running.wait_until(lambda service: service.slots.waiting == 1)
        for client in clients[:2]:
            client.send(END)
            assert len(received(client)[0]) == 60 * 256 * 2


def test_a_client_that_leaves_frees_its_slot(running: Running, voice: Voice) -> None:
    with watched(voice) as streams, opened(running) as client:
        client.send(json.dumps({"steps": "full"}))
        client.send(frames(a_mel(3000)))
        client.send(END)
        running.wait_until(lambda service: bool(streams and streams[0].samples))
        client.socket.shutdown(socket.SHUT_RDWR)  # without a closing handshake
        running.wait_until_idle()
    assert 0 < streams[0].samples < 3000 * 256


def test_a_reader_that_stops_is_dropped(running: Running, voice: Voice) -> None:
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 13)
    client.connect(("127.0.0.1", running.port))
    options = {"sock": client, "max_queue": 1, "open_timeout": TIMEOUT, "close_timeout": 0.1}
    with watched(voice) as streams, connect(running.stream, **options) as slow:
        slow.send(json.dumps({"steps": 1, "format": "f32"}))
        slow.send(frames(a_mel(3000)))
        slow.send(END)
        running.wait_until(lambda service: bool(streams and streams[0].samples))
        running.wait_until_idle()
    assert streams[0].samples < 3000 * 256, "all of the audio waited in memory"


def test_a_connection_without_frames_holds_no_slot_and_ends(voice: Voice) -> None:
    with serving(app(voice, limits=Limits(idle_seconds=0.5))) as running:
        with opened(running) as idle:
            assert running.service.slots.is_idle
            received(idle)
        assert idle.close_code == 1008 and "within 0.5 s" in idle.close_reason
        with opened(running) as stalled:
            stalled.send(frames(MEL))
            received(stalled)
        assert stalled.close_code == 1008
        running.wait_until_idle()


def test_open_streams_are_bounded(voice: Voice) -> None:
    with serving(app(voice, limits=Limits(connections=2))) as running, ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(opened(running))
        running.wait_until(lambda service: service.streams == 2)
        with pytest.raises(InvalidStatus) as refused:
            opened(running).__enter__()
        assert refused.value.response.status_code == 503
        stack.close()
        running.wait_until(lambda service: service.streams == 0)
        with opened(running) as client:
            client.send(frames(MEL))
            assert json.loads(client.recv(TIMEOUT))["type"] == "ready"


def test_another_site_is_refused(running: Running) -> None:
    with pytest.raises(InvalidStatus) as refused:
        opened(running, origin="https://example.org").__enter__()
    assert refused.value.response.status_code == 403
    with opened(running, origin=running.url):
        pass


def test_a_draining_service_takes_no_stream(voice: Voice) -> None:
    with serving(app(voice)) as running:
        with opened(running) as client:
            running.service.draining = True
            client.send(frames(MEL))
            received(client)
        assert client.close_code == 1013

        assert running.post("/v1/vocode").status_code == 503


def test_a_voice_on_a_gpu_has_no_streams(tmp_path: Path) -> None:
    other = load(tmp_path, VOCODER)
    with serving(app(other)) as running:
        other.choice = replace(other.choice, device="cuda")
        with pytest.raises(InvalidStatus) as refused:
            opened(running).__enter__()
    assert refused.value.response.status_code == 501
