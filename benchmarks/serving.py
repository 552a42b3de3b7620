"""Latency of the service under load, and what overload loses.

    python -m benchmarks.serving --results FILE                  # 1, 2, 4 and 8 clients, then a minute of overload
    python -m benchmarks.serving --piper --results FILE          # the same in turns with Piper's HTTP server
    python -m benchmarks.serving --channels 16 --layers 4        # random weights: a check of the program itself

The service runs in a process of its own. A client sends one request after another, each the demo mel as a stream. The
first audio counts from the start of the request. In the overload, twice as many clients as slots and places in the
queue send at once and obey Retry-After; every call that was accepted must come back complete and with the same bytes.
Piper's server reads a sentence of the same length aloud (benchmarks/piper.py).
"""

from __future__ import annotations

import argparse
import io
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from benchmarks import piper
from engine.checkpoint.bundled import BUNDLED
from engine.checkpoint.load import Checkpoint, save_checkpoint
from engine.cli.bench.machine import environment, load_average
from engine.config import BASE

CLIENTS = (1, 2, 4, 8)
TIMEOUT = 600.0  # seconds
HEADERS = {"Content-Type": "application/x-npy", "Accept": "audio/pcm"}


@dataclass(frozen=True)
class Reply:
    """One answer.

    Attributes:
        status: of HTTP.
        first: seconds to the first audio.
        total: seconds to its end.
        audio: the samples.
        retry_after: seconds, of a refusal.
    """

    status: int
    first: float
    total: float
    audio: bytes
    retry_after: float


@contextmanager
def service(model: str | None, arguments: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Run `engine serve` for the block, and yield its address and its first lines."""
    line = [sys.executable, "-m", "engine", "serve", "--port", "0", "--generator", "none", *arguments]
    line += ["--model", model] if model else []
    with subprocess.Popen(line, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            lines: list[str] = []
            for text in process.stderr:
                lines.append(text.strip())
                if match := re.search(r"listening on (\S+)/$", text):
                    break
            else:
                raise SystemExit("\n".join(lines))
            with ThreadPoolExecutor(1) as reader:
                reader.submit(process.stderr.read)  # the log must not fill the pipe
                yield match[1], lines
                process.terminate()
                process.wait(TIMEOUT)
        finally:
            process.kill()


def call(client: httpx.Client, url: str, body: bytes) -> Reply:
    """Send one request and read its stream."""
    begin, first, parts = time.perf_counter(), 0.0, []
    with client.stream("POST", f"{url}/v1/vocode?stream=1", content=body, headers=HEADERS) as answer:
        for part in answer.iter_raw():
            first = first or time.perf_counter() - begin
            parts.append(part)
    retry = float(answer.headers.get("retry-after", 0))
    return Reply(answer.status_code, first, time.perf_counter() - begin, b"".join(parts), retry)


def call_piper(client: httpx.Client, url: str) -> Reply:
    """Send one sentence to Piper's server, which answers with the whole file."""
    begin, first, parts = time.perf_counter(), 0.0, []
    with client.stream("POST", f"{url}/synthesize", json={"text": piper.SENTENCE}) as answer:
        for part in answer.iter_raw():
            first = first or time.perf_counter() - begin
            parts.append(part)
    return Reply(answer.status_code, first, time.perf_counter() - begin, b"".join(parts), 0.0)


def latencies(send: Callable[[httpx.Client], Reply], clients: int, requests: int) -> dict[str, Any]:
    """Return the latencies of clients that each send requests one after another."""

    def run(_: int) -> list[Reply]:
        with httpx.Client(timeout=TIMEOUT) as client:
            return [send(client) for _ in range(requests)]

    begin = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        replies = [reply for replies in pool.map(run, range(clients)) for reply in replies]
    seconds = time.perf_counter() - begin
    done = [reply for reply in replies if reply.status == 200]
    return {
        "clients": clients,
        "requests": len(replies),
        "refused": len(replies) - len(done),
        "first_audio": _quantiles([reply.first for reply in done]),
        "total": _quantiles([reply.total for reply in done]),
        "requests_per_second": len(done) / seconds,
    }


def overload(url: str, body: bytes, clients: int, seconds: float) -> dict[str, Any]:
    """Send from more clients than the service has places, and count what comes back."""
    end = time.monotonic() + seconds

    def run(_: int) -> list[Reply]:
        replies = []
        with httpx.Client(timeout=TIMEOUT) as client:
            while time.monotonic() < end:
                replies.append(call(client, url, body))
                time.sleep(min(replies[-1].retry_after, max(end - time.monotonic(), 0)))
        return replies

    with ThreadPoolExecutor(clients) as pool:
        replies = [reply for replies in pool.map(run, range(clients)) for reply in replies]
    accepted = [reply for reply in replies if reply.status == 200]
    return {
        "clients": clients,
        "seconds": seconds,
        "accepted": len(accepted),
        "refused": sum(reply.status == 429 for reply in replies),
        "other": sum(reply.status not in (200, 429) for reply in replies),
        "different_bytes": len({reply.audio for reply in accepted}) - 1,
        "total": _quantiles([reply.total for reply in accepted]),
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=4, help="per client (default: 4)")
    parser.add_argument("--overload-seconds", type=float, default=60.0, help="(default: 60)")
    parser.add_argument("--channels", type=int, help="random weights of so many channels")
    parser.add_argument("--layers", type=int, default=4, help="of random weights (default: 4)")
    parser.add_argument("--slots", type=int, default=1, help="(default: 1)")
    parser.add_argument("--queue", type=int, default=8, help="(default: 8)")
    parser.add_argument("--piper", action="store_true", help="measure Piper's HTTP server, too")
    parser.add_argument("--results", type=Path, help="a JSON file to write")
    arguments = parser.parse_args(argv)
    before = environment(load_average())
    mel = np.load(BUNDLED.with_name("demo_mel.npy"))
    file = io.BytesIO()
    np.save(file, mel)
    body = file.getvalue()
    with tempfile.TemporaryDirectory() as folder:
        model = None
        if arguments.channels:
            from tests.support.networks import random_network

            model = str(Path(folder) / "small.safetensors")
            config = replace(BASE, residual_channels=arguments.channels, residual_layers=arguments.layers)
            save_checkpoint(model, Checkpoint(config, random_network(config, 0)))
        options = ["--slots", str(arguments.slots), "--queue", str(arguments.queue)]
        with ExitStack() as stack:
            url, lines = stack.enter_context(service(model, options))
            result: dict[str, Any] = {
                "service": lines,
                "audio_seconds": mel.shape[1] * 256 / 22050,
                "rows": [],
                "queue": arguments.queue,
                "slots": arguments.slots,
            }
            servers = {"engine": partial(call, url=url, body=body)}
            if arguments.piper:
                voice = Path(folder) / "random.onnx"
                piper.write_voice(voice)
                servers["piper"] = partial(call_piper, url=stack.enter_context(piper.server(voice)))
                with httpx.Client(timeout=TIMEOUT) as client:
                    result["piper_audio_seconds"] = piper.seconds_of(servers["piper"](client).audio)
            for clients in CLIENTS:
                for name, send in servers.items():
                    result["rows"].append({"server": name, **latencies(send, clients, arguments.requests)})
                    print(json.dumps(result["rows"][-1]), flush=True)
            crowd = 2 * (arguments.slots + arguments.queue)
            result["overload"] = overload(url, body, crowd, arguments.overload_seconds)
            print(json.dumps(result["overload"]))
    if arguments.results:
        arguments.results.write_text(json.dumps({**before, "serving": result}, indent=1) + "\n")


def _quantiles(values: Sequence[float]) -> dict[str, float]:
    ordered = sorted(values) or [0.0]
    return {"median": statistics.median(ordered), "longest": ordered[-1]}


if __name__ == "__main__":
    main()
