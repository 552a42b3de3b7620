"""The command `engine serve`: its lines, its errors, and an end that finishes the calls that were taken."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

import engine
from engine.cli.parsing import UNAVAILABLE
from tests.support.commands import Run, error_of
from tests.support.serving import DIGITS, NPY, PCM, TIMEOUT, VOCODER, a_mel, frames, load, npy, pcm

# It says at the end which packages were imported that the service does not need.
PROGRAM = """
import runpy, signal, sys
signal.signal(signal.SIGTERM, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)
try:
    runpy.run_module("engine", run_name="__main__", alter_sys=True)
finally:
    print(sorted({"torch", "triton", "soundfile", "soxr", "scipy"} & set(sys.modules)))
"""
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


class Process:
    """A service in a process of its own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []
        self.url = ""

    def wait_for_address(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line)
            if match := re.search(r"listening on (\S+)/$", line):
                self.url = match[1]
                return
        raise AssertionError("".join(self.lines))

    def wait_until(self, line: str) -> None:
        """Wait until a line stands in the measurements."""
        for _ in range(10_000):
            if f"\n{line}\n" in httpx.get(f"{self.url}/metrics", timeout=TIMEOUT).text:
                return
        raise AssertionError(line)

    def end(self, number: int) -> tuple[int, str, str]:
        self.process.send_signal(number)
        out, error = self.process.communicate(timeout=TIMEOUT)
        return self.process.returncode, out, "".join(self.lines) + error


@pytest.fixture
def checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    load(tmp_path, VOCODER)
    load(tmp_path, DIGITS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@contextmanager
def serve(*arguments: str) -> Iterator[Process]:
    networks = ["--model", "80-0.safetensors", "--generator", "0-3.safetensors"]
    line = [sys.executable, "-c", PROGRAM, "serve", "--port", "0", *networks, "--threads", "1", *arguments]
    pipes = subprocess.PIPE
    with subprocess.Popen(line, env=ENVIRONMENT, stdout=pipes, stderr=pipes, text=True) as process:
        try:
            running = Process(process)
            running.wait_for_address()
            yield running
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_finishes_the_calls_that_were_taken(checkpoints: Path, number: int) -> None:
    mel = a_mel(12)
    expected = pcm(engine.load("80-0.safetensors", device="cpu", precision="fp32", threads=1).vocode(mel))
    with serve("--precision", "fp32") as running, ThreadPoolExecutor(1) as clients:
        address = running.url.replace("http", "ws") + "/v1/stream"
        with connect(address, open_timeout=TIMEOUT) as stream:  # holds the slot
            stream.send(frames(mel))
            assert isinstance(stream.recv(TIMEOUT), str)
            options = {"content": npy(mel), "headers": {**NPY, **PCM}, "timeout": TIMEOUT}
            waiting = clients.submit(httpx.post, f"{running.url}/v1/vocode", **options)
            running.wait_until("diffwave_requests_waiting 1")
            running.process.send_signal(number)
            while (ready := httpx.get(f"{running.url}/readyz", timeout=TIMEOUT)).status_code == 200:
                pass
            refused = httpx.post(f"{running.url}/v1/vocode", timeout=TIMEOUT)
            assert ready.status_code == refused.status_code == 503 and not waiting.done()
            stream.send(json.dumps({"type": "end"}))
            audio = b"".join(message for message in stream if isinstance(message, bytes))
        answer = waiting.result(TIMEOUT)
        out, error = running.process.communicate(timeout=TIMEOUT)
    assert audio == expected
    assert answer.status_code == 200 and answer.content == expected
    assert (running.process.returncode, out) == (0, "[]\n"), error
    for route in ("stream", "vocode"):
        assert re.search(rf"^engine: \w{{16}} /v1/{route} 200 in [\d.]+ s, 0\.14 s of audio$", error, re.M), error
    assert error.endswith("engine: ended\n")


# The grace of the command is 30 s.
IMPATIENT = """
import signal, sys
import engine
from engine.serving import Limits, app
from engine.serving.server import listen, serve
signal.signal(signal.SIGTERM, signal.SIG_DFL)
voice = engine.load(sys.argv[1], device="cpu", threads=1)
serve(app(voice, limits=Limits(grace_seconds=1)), listen("127.0.0.1", 0), started=lambda port: print(port, flush=True))
"""


def test_a_stream_without_an_end_does_not_hold_the_service(checkpoints: Path) -> None:
    line = [sys.executable, "-c", IMPATIENT, "80-0.safetensors"]
    with subprocess.Popen(line, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            address = f"ws://127.0.0.1:{int(process.stdout.readline())}/v1/stream"
            with connect(address, open_timeout=TIMEOUT) as stream, pytest.raises(ConnectionClosed):
                stream.send(frames(a_mel(2)))
                stream.recv(TIMEOUT)
                process.send_signal(signal.SIGTERM)
                while True:  # the client feeds on
                    stream.send(frames(a_mel(2)))
                    with suppress(TimeoutError):
                        stream.recv(0.05)
            assert stream.close_code == 1012 and process.wait(TIMEOUT) == 0
        finally:
            process.kill()


def test_it_says_what_it_serves(checkpoints: Path) -> None:
    with serve() as running:
        text = httpx.get(f"{running.url}/v1/models", timeout=TIMEOUT).json()
        assert "fp32" in text["models"][0]["precisions"] and text["models"][1]["kind"] == "generator"
        status, out, error = running.end(signal.SIGTERM)
    assert (status, out) == (0, "[]\n")
    assert re.match(
        r"engine: 80-0.safetensors: C=16 N=4 .*; \w+ on \w+, 1 thread, 1 slot\n"
        r"engine: [\d.e+]+x real time here: about \d+ streams? at once(; --slots 1 takes 1 call at a time)?\n"
        r"engine: listening on http://127\.0\.0\.1:\d+/\n",
        error,
    ), error


def test_quiet(checkpoints: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    networks = ["--model", "80-0.safetensors", "--generator", "none"]
    line = [sys.executable, "-m", "engine", "serve", "-q", "--port", str(port), *networks]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(line, env=ENVIRONMENT, **pipes) as process:  # type: ignore[call-overload]
        client = httpx.Client(transport=httpx.HTTPTransport(retries=10), timeout=TIMEOUT)
        assert client.get(f"http://127.0.0.1:{port}/healthz").status_code == 200
        process.kill()
        assert process.communicate() == (b"", b"")


def test_all_interfaces_without_a_token(checkpoints: Path) -> None:
    Path("token.txt").write_text("a-token-of-20-letters\n")
    with serve("--host", "0.0.0.0") as running:
        assert "engine: warning: --host 0.0.0.0: everybody who reaches this machine" in "".join(running.lines)
    with serve("--host", "0.0.0.0", "--token", "@token.txt") as running:
        assert "warning" not in "".join(running.lines)
        address = running.url.replace("0.0.0.0", "127.0.0.1") + "/v1/models"
        assert httpx.get(address, timeout=TIMEOUT).status_code == 401
        headers = {"Authorization": "Bearer a-token-of-20-letters"}
        assert httpx.get(address, headers=headers, timeout=TIMEOUT).status_code == 200


def test_https(checkpoints: Path) -> None:
    openssl = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "2"]
    try:
        subprocess.run([*openssl, "-keyout", "key.pem", "-out", "cert.pem"], check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("there is no openssl")
    with serve("--tls-cert", "cert.pem", "--tls-key", "key.pem") as running:
        assert running.url.startswith("https://")
        assert httpx.get(f"{running.url}/healthz", verify=False, timeout=TIMEOUT).text == "ok\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--port", "70000"], "--port: expected 0 to 65535, got 70000"),
        (["--port", "0", "--slots", "5", "--threads", "2"], "--slots: expected at most 2, one per thread, got 5"),
        (["--port", "0", "--queue", "-1"], "--queue: expected an integer from 0"),
        (["--port", "0", "--max-seconds", "0"], "--max-seconds: expected a number above 0"),
        (["--port", "0", "--token", "short"], "--token: expected 16 to 256 letters"),
        (["--port", "0", "--steps", "9"], "--steps: expected "),
        (["--port", "0", "--tls-cert", "x.pem"], "--tls-key: expected it together with --tls-cert"),
        (
            ["--port", "0", "--tls-cert", "x.pem", "--tls-key", "y.pem", "-q"],
            "--tls-cert: cannot use 'x.pem' and 'y.pem'",
        ),
        (["--port", "0", "--token", "@missing"], "missing: No such file"),
        (["--host", "host.invalid"], "--port: cannot listen on host.invalid:8000"),
        (["--port", "0", "--generator", "80-0.safetensors"], "--generator: expected a network without a mel"),
        (["--port", "0", "--generator", "nosuch"], "--generator: expected a file or one of 'voice'"),
    ],
)
def test_errors(checkpoints: Path, run: Run, arguments: list[str], message: str) -> None:
    assert error_of(run, "serve", "--model", "80-0.safetensors", *arguments).startswith(message)


def test_without_the_extra(checkpoints: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "starlette", None)
    assert "serve]'" in error_of(run, "serve", expected=UNAVAILABLE)
