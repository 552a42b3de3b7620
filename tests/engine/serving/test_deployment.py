"""The configuration of nginx in examples/serving, in a real nginx before two services."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from websockets.sync.client import connect

from engine import Voice
from engine.cli.main import build_parser
from engine.serving import Limits, app
from tests.support.paths import ROOT
from tests.support.serving import NPY, PCM, TIMEOUT, VOCODER, Running, a_mel, blocked, frames, load, npy, pcm, serving

CONFIGURATION = ROOT / "examples" / "serving" / "nginx.conf"
MAIN = """
daemon off; master_process off; pid {folder}/pid; error_log stderr warn;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    {configuration}
}}
"""
MEL = a_mel(12)


@pytest.fixture(scope="module")
def services(voice: Voice, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, Running]]:
    other = load(tmp_path_factory.mktemp("other"), VOCODER)
    limits = Limits(slots=1, queue=0)
    with serving(app(voice, limits=limits)) as first, serving(app(other, limits=limits)) as second:
        yield first, second


@pytest.fixture(scope="module")
def proxy(services: tuple[Running, Running], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    program = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/bin:/usr/local/bin")
    if program is None:
        pytest.skip("there is no nginx")
    folder = tmp_path_factory.mktemp("nginx")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    text = CONFIGURATION.read_text()
    for old, new in (("8000", port), ("8001", services[0].port), ("8002", services[1].port)):
        assert text.count(f"127.0.0.1:{old}") == 1
        text = text.replace(f"127.0.0.1:{old}", f"127.0.0.1:{new}")
    (folder / "nginx.conf").write_text(MAIN.format(folder=folder, configuration=text))
    with subprocess.Popen(
        [program, "-c", str(folder / "nginx.conf"), "-p", str(folder)], stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            for _ in range(1000):
                if process.poll() is not None:
                    raise AssertionError(process.communicate()[1])
                try:
                    socket.create_connection(("127.0.0.1", port)).close()
                    break
                except OSError:
                    time.sleep(0.01)
            yield f"127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(TIMEOUT)


def post(proxy: str, path: str = "/v1/vocode?steps=1") -> httpx.Response:
    return httpx.post(f"http://{proxy}{path}", content=npy(MEL), headers={**NPY, **PCM}, timeout=TIMEOUT)


def test_answers_pass_through(proxy: str, voice: Voice) -> None:
    expected = pcm(voice.vocode(MEL, steps=1))
    for stream in (0, 1):
        assert post(proxy, f"/v1/vocode?steps=1&stream={stream}").content == expected
    with connect(f"ws://{proxy}/v1/stream", origin=f"http://{proxy}", open_timeout=TIMEOUT) as client:
        client.send(json.dumps({"steps": 1}))
        client.send(frames(MEL))
        client.send(json.dumps({"type": "end"}))
        messages = list(client)
    assert b"".join(message for message in messages if isinstance(message, bytes)) == expected


def test_a_full_service_passes_its_call_on(proxy: str, services: tuple[Running, Running]) -> None:
    first, second = services
    with ThreadPoolExecutor(2) as clients:
        with blocked(first.service):
            held = [clients.submit(post, proxy)]
            while not first.service.slots.working:
                if held[0].done():  # it went to the other service
                    held = [clients.submit(post, proxy)]
                time.sleep(0.005)
            assert [post(proxy).status_code for _ in range(4)] == [200] * 4
            second.wait_until_idle()  # an answer arrives before its slot is free
            with blocked(second.service):
                held.append(clients.submit(post, proxy))
                second.wait_until(lambda service: service.slots.working == 1)
                full = post(proxy)
                assert full.status_code == 429 and int(full.headers["retry-after"]) >= 1
        assert [answer.result().status_code for answer in held] == [200, 200]


def test_a_service_that_ends_passes_its_call_on(proxy: str, services: tuple[Running, Running]) -> None:
    services[0].service.draining = True
    try:
        assert [post(proxy).status_code for _ in range(4)] == [200] * 4
    finally:
        services[0].service.draining = False


def test_a_client_that_leaves_is_noticed_behind_the_proxy(proxy: str, services: tuple[Running, Running]) -> None:
    long = npy(a_mel(3000))
    with httpx.Client(timeout=TIMEOUT) as client:
        path = f"http://{proxy}/v1/vocode?steps=full&stream=1"
        with client.stream("POST", path, content=long, headers={**NPY, **PCM}) as answer:
            next(answer.iter_raw())
    gone = 'diffwave_requests_total{route="/v1/vocode",code="499"} 1\n'
    for running in services:
        running.wait_until_idle()
    while sum(gone in running.get("/metrics").text for running in services) != 1:
        time.sleep(0.005)


def test_commands_of_the_other_files_parse() -> None:
    folder = CONFIGURATION.parent
    [unit] = re.findall(
        r"^ExecStart=/opt/diffwave/bin/engine (.*)$", (folder / "diffwave.service").read_text(), re.MULTILINE
    )
    lines = [unit.split()]
    composed = re.findall(r"command: (\[.*\])", (folder / "compose.yaml").read_text())
    for name, others in (("Dockerfile", composed[:1]), ("Dockerfile.cuda", composed[1:])):
        [entry], [command] = (
            [json.loads(value) for value in re.findall(rf"^{word} (\[.*\])$", (ROOT / name).read_text(), re.MULTILINE)]
            for word in ("ENTRYPOINT", "CMD")
        )
        assert entry[0] == "engine" and len(others) == 1
        lines += [entry[1:] + arguments for arguments in (command, *map(json.loads, others))]
    for line in lines:
        arguments = build_parser().parse_args(line)
        assert arguments.host == "0.0.0.0" and arguments.token.startswith("@")
