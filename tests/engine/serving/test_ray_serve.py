"""The deployment of examples/serving on a local Ray, in a process of its own: `make ray`."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT

PROGRAM = """
import io, sys
import httpx, numpy as np, ray
from ray import serve
import engine
from engine.audio.pcm import pcm16
from engine.checkpoint.bundled import ASSETS
from examples.serving.ray_serve import replicas

ray.init(num_cpus=2, include_dashboard=False, object_store_memory=80 * 2**20, log_to_driver=False)
serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])})
serve.run(replicas.options(num_replicas=1, ray_actor_options={"num_cpus": 1}).bind(), route_prefix="/")
mel = np.load(ASSETS / "demo_mel.npy")[:, :12]
file = io.BytesIO()
np.save(file, mel)
headers = {"Content-Type": "application/x-npy", "Accept": "audio/pcm"}
url = f"http://127.0.0.1:{sys.argv[1]}"
options = {"content": file.getvalue(), "headers": headers, "timeout": 300}
for stream in (0, 1):
    answer = httpx.post(f"{url}/v1/vocode?seed=5&stream={stream}", **options)
    assert answer.status_code == 200, answer.text
    assert answer.content == pcm16(engine.load(device="cpu", threads=1).vocode(mel, seed=5)).tobytes()
assert httpx.get(f"{url}/readyz", timeout=300).text == "ready\\n"
assert httpx.post(f"{url}/v1/vocode", content=b"no", headers=headers, timeout=300).status_code == 400
print("complete")
serve.shutdown()
ray.shutdown()
"""


@pytest.mark.ray
def test_the_deployment_gives_the_bytes_of_the_library(tmp_path: Path) -> None:
    for package in ("ray", "grpc", "fastapi"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"there is no {package}; pip install 'ray[serve]'")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    paths = os.pathsep.join([str(ROOT), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(port)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": paths, "HOME": str(tmp_path), "RAY_USAGE_STATS_ENABLED": "0"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0 and "complete\n" in done.stdout, done.stderr[-3000:]


def test_the_program_is_short() -> None:
    lines = (ROOT / "examples" / "serving" / "ray_serve.py").read_text().splitlines()
    code = [line for line in lines if line.strip() and not line.startswith(("#", '"""'))]
    assert len(code) <= 20
