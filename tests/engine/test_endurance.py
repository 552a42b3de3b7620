"""What a service would notice after a day: memory that grows, processes that hang."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import engine
from engine.checkpoint.load import Checkpoint, save_checkpoint
from engine.config import Config
from tests.support.networks import random_network
from tests.support.paths import ROOT

TINY = Config(residual_channels=16, residual_layers=3, dilation_cycle=3, n_mels=8, upsample_strides=(4,))
MIB = 1 << 20

needs_proc = pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="reads Linux's /proc")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tiny") / "tiny.safetensors"
    save_checkpoint(path, Checkpoint(TINY, random_network(TINY, 0)))
    return path


# 10,000 calls and streams: by how many bytes, objects and threads the process grew. It is one of its own, as in that of
# the tests the allocator has what other tests left behind to move about in.
SERVICE = """
import gc, os, re, sys
import numpy as np
import engine

voice = engine.load({path!r}, device="cpu", threads=2)
mel = np.random.default_rng(0).random((8, 6), np.float32)
expected = voice.vocode(mel).tobytes()

def call(number):
    kind = number % 5
    if kind == 0:
        assert voice.vocode(mel).tobytes() == expected
    elif kind == 1:
        assert b"".join(one.tobytes() for one in voice.stream([mel[:, :2], mel[:, 2:]])) == expected
    elif kind == 2:
        voice.stream(mel).close()
    elif kind == 3:
        assert voice.vocode([mel, mel[:, :3]])[0].tobytes() == expected
    else:
        try:
            voice.vocode(mel * np.nan)
        except engine.InputError:
            return
        raise AssertionError("NaN was taken")

def held():
    gc.collect()
    pages = open("/proc/self/smaps_rollup").read()  # counted; those of statm and status are estimates
    size = int(re.search(r"Rss: +(\\d+) kB", pages)[1]) * 1024
    return size, sys.getallocatedblocks(), len(os.listdir("/proc/self/task"))

for number in range(1000):
    call(number)
before = held()
for number in range(10000):
    call(number)
print(*(now - then for now, then in zip(held(), before)))
"""


@needs_proc
def test_10000_calls_and_streams_do_not_grow(path: Path) -> None:
    script = SERVICE.format(path=str(path))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    size, blocks, threads = map(int, done.stdout.split())
    assert blocks < 1000  # one small object kept per stream would be 4,000
    assert size < MIB / 4, f"{size / MIB:.2f} MiB"  # 26 bytes a call
    assert threads <= 0


def test_100_forks(path: Path) -> None:
    voice = engine.load(path, device="cpu", threads=3)
    mel = np.random.default_rng(0).random((8, 40), np.float32)
    expected = hashlib.sha256(voice.vocode(mel).tobytes()).digest()
    for number in range(100):
        begun = voice.stream(mel, chunk=16)
        next(begun)
        child = os.fork()
        if child == 0:
            try:
                signal.alarm(60)
                made = voice.vocode(mel) if number % 2 else np.concatenate(list(voice.stream(mel)))
                rest = sum(map(len, begun))  # a stream that its parent began
                right = hashlib.sha256(made.tobytes()).digest() == expected and rest == len(made) - 16
                os._exit(0 if right else 3)
            finally:
                os._exit(4)
        assert sum(map(len, begun)) == 144
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, f"fork {number}"
    assert hashlib.sha256(voice.vocode(mel).tobytes()).digest() == expected


# A process that makes 10 minutes of audio, 50 MiB: how much it grew after loading, beside what is the caller's.
GROWTH = """
import sys, tempfile
from pathlib import Path
import numpy as np
sys.path.insert(0, {root!r})
from benchmarks import long_run
import engine

voice = engine.load({path!r}, device="cpu", threads=2)
frames = 10 * 60 * 22050 // voice.hop
with tempfile.TemporaryDirectory() as folder:
    mel = np.lib.format.open_memmap(Path(folder) / "mel.npy", mode="w+", dtype=np.float32, shape=(8, frames))
    mel[:] = np.random.default_rng(0).random((8, frames), np.float32)
    mel.flush()
    del mel
    if {whole}:
        mel = np.load(Path(folder) / "mel.npy")
        voice.vocode(mel[:, :100], schedule=[0.1])
        before = long_run.resident()
        long_run.reset_peak()
        audio = voice.vocode(mel, schedule=[0.1])
        assert len(audio) == frames * voice.hop
        print(long_run.resident("VmHWM") - before - audio.nbytes)
    else:
        voice.vocode(np.zeros((8, 100), np.float32), schedule=[0.1])
        figures = long_run.run(voice, Path(folder) / "mel.npy", Path(folder) / "out.wav", schedule=[0.1])
        assert figures["audio_seconds"] > 599
        print(int(figures["mib_peak_growth"] * 2**20))
"""


@needs_proc
@pytest.mark.parametrize("whole", [False, True], ids=["streamed to a file", "vocode"])
def test_memory_does_not_grow_with_the_length(path: Path, whole: bool) -> None:
    """The network is tiny, so what it holds hardly counts: copies of the audio or of the mel would."""
    script = GROWTH.format(root=str(ROOT), path=str(path), whole=whole)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 20 * MIB, f"{int(done.stdout) / MIB:.1f} MiB beside the audio"
