"""A service on loopback in a thread, and what clients send to it."""

from __future__ import annotations

import io
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt

import engine
from engine.audio.pcm import pcm16
from engine.checkpoint.load import Checkpoint, save_checkpoint
from engine.config import Config
from engine.sampling.streaming.stream import Stream
from engine.serving import server
from engine.serving.service import Service
from tests.support.networks import random_network

VOCODER = Config(residual_channels=16, residual_layers=4, dilation_cycle=4)
PLAIN = replace(VOCODER, n_mels=0, upsample_strides=(), mel_kind=None)
DIGITS = replace(PLAIN, classes=("0 ann", "0 ben", "1 ann"), clip_samples=3000, guidance=2.0, sample_rate=16000)
TIMEOUT = 120.0  # seconds; generous, because the machine may be busy
NPY = {"Content-Type": "application/x-npy"}
JSON = {"Content-Type": "application/json"}
WAV = {"Content-Type": "audio/wav"}
RAW = {"Content-Type": "application/octet-stream"}
PCM = {"Accept": "audio/pcm"}


@dataclass
class Running:
    """A service that runs.

    Attributes:
        port: on loopback.
        service: its state.
    """

    port: int
    service: Service

    @property
    def url(self) -> str:
        """The address of the service."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def stream(self) -> str:
        """The address of the stream."""
        return f"ws://127.0.0.1:{self.port}/v1/stream"

    def post(self, path: str, **options: Any) -> httpx.Response:
        """Send one request."""
        return httpx.post(self.url + path, timeout=TIMEOUT, **options)

    def get(self, path: str, **options: Any) -> httpx.Response:
        """Fetch one resource."""
        return httpx.get(self.url + path, timeout=TIMEOUT, **options)

    def wait_until(self, condition: Callable[[Service], bool]) -> None:
        """Wait until the service is in a state."""
        deadline = time.monotonic() + TIMEOUT
        while not condition(self.service):
            assert time.monotonic() < deadline, "the service did not reach the state"
            time.sleep(0.005)

    def wait_until_idle(self) -> None:
        """Wait until no call works or waits."""
        self.wait_until(lambda service: service.slots.is_idle)


@contextmanager
def serving(application: Any) -> Iterator[Running]:
    """Serve an application on a free port of loopback, in a thread."""
    ports: list[int] = []
    begun = threading.Event()

    def started(port: int) -> None:
        ports.append(port)
        begun.set()

    servers: list[server.Server] = []
    plain = server.Server

    class Kept(plain):  # type: ignore[misc, valid-type]
        """A server that the test can end."""

        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            servers.append(self)

    with server.listen("127.0.0.1", 0) as listening:
        # Connections inherit it: a slow reader fills a small buffer soon.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 15)
        server.Server = Kept  # type: ignore[misc]
        try:
            thread = threading.Thread(target=lambda: server.serve(application, listening, started=started))
            thread.start()
            assert begun.wait(TIMEOUT)
        finally:
            server.Server = plain  # type: ignore[misc]
        try:
            yield Running(ports[0], application.state.service)
        finally:
            servers[0].handle_exit(15, None)
            servers[0].force_exit = True
            thread.join(TIMEOUT)
            assert not thread.is_alive()


@contextmanager
def blocked(service: Service) -> Iterator[None]:
    """Keep the threads of a service busy for the block, so that a call holds its slot without working."""
    release = threading.Event()
    waits = [service.executor.submit(release.wait, TIMEOUT) for _ in range(service.limits.slots)]
    try:
        yield
    finally:
        release.set()
        for wait in waits:
            wait.result(TIMEOUT)


@contextmanager
def watched(voice: engine.Voice) -> Iterator[list[Stream]]:
    """Collect the streams that a voice opens in the block."""
    streams: list[Stream] = []
    plain = voice.open_stream

    def open_stream(**options: Any) -> Stream:
        streams.append(plain(**options))
        return streams[-1]

    vars(voice)["open_stream"] = open_stream
    try:
        yield streams
    finally:
        del vars(voice)["open_stream"]


def connect(running: Running, request: bytes, receive_buffer: int | None = None) -> socket.socket:
    """Open a connection and send the bytes of a request, complete or not."""
    client = socket.socket()
    if receive_buffer:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    client.settimeout(TIMEOUT)
    client.connect(("127.0.0.1", running.port))
    client.sendall(request)
    return client


def request(body: bytes, query: str = "", length: int | None = None, kind: str = "application/x-npy") -> bytes:
    """Return the bytes of a request to /v1/vocode, which may claim another length than it has."""
    claimed = len(body) if length is None else length
    head = f"POST /v1/vocode?{query} HTTP/1.1\r\nHost: a\r\nContent-Type: {kind}\r\nContent-Length: {claimed}\r\n"
    return f"{head}Accept: audio/pcm\r\n\r\n".encode() + body


def load(folder: Path, config: Config, **options: Any) -> engine.Voice:
    """Load a random network on the CPU."""
    path = folder / f"{config.n_mels}-{len(config.classes)}.safetensors"
    if not path.exists():
        save_checkpoint(path, Checkpoint(config, random_network(config, 0)))
    return engine.load(path, device="cpu", **{"threads": 1, "precision": "fp32", **options})


def a_mel(frames: int, seed: int = 0) -> npt.NDArray[np.float32]:
    """Return a random mel of the kind of `VOCODER`."""
    return np.random.default_rng(seed).random((VOCODER.n_mels, frames), np.float32)


def npy(array: npt.NDArray[Any]) -> bytes:
    """Return an .npy file."""
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def pcm(audio: npt.NDArray[np.float32]) -> bytes:
    """Return the samples that the service sends."""
    return pcm16(audio).tobytes()


def frames(mel: npt.NDArray[np.float32]) -> bytes:
    """Return the raw frames of a mel."""
    return np.ascontiguousarray(mel.T).astype("<f4").tobytes()
