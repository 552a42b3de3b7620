"""Long use: memory does not grow, and forked processes do not hang."""

from __future__ import annotations

import ctypes
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


# Prints the growth of the process in bytes and threads over many calls and streams. It runs in a process of
# its own, because the allocator would reuse memory that other tests left.
SERVICE = """
import ctypes, gc, os
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
        assert b"".join(chunk.tobytes() for chunk in voice.stream([mel[:, :2], mel[:, 2:]])) == expected
    elif kind == 2:
        voice.stream(mel).close()
    elif kind == 3:
        assert voice.vocode([mel, mel[:, :3]])[0].tobytes() == expected
    else:
        try:
            voice.vocode(mel * np.nan)
        except engine.InputError:
            return
        raise AssertionError("no error for NaN")

class Mallinfo(ctypes.Structure):
    names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
    _fields_ = [(name, ctypes.c_size_t) for name in names.split()]

mallinfo = ctypes.CDLL(None).mallinfo2
mallinfo.restype = Mallinfo

def usage():
    gc.collect()
    info = mallinfo()  # exact, where the resident set moves by whole arenas
    return info.uordblks + info.hblkhd, len(os.listdir("/proc/self/task"))

for number in range(1000):
    call(number)
sizes, threads = zip(usage())
for _ in range({windows}):
    for number in range({calls}):
        call(number)
    size, count = usage()
    sizes, threads = (*sizes, size), (*threads, count)
print(*(after - before for before, after in zip(sizes, sizes[1:])), threads[-1] - threads[0])
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="counts the bytes of glibc's allocator")
@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="counts the bytes of glibc's allocator")
@pytest.mark.parametrize("calls", [400, pytest.param(2000, marks=pytest.mark.slow)])
def test_memory_does_not_grow_over_many_calls(path: Path, calls: int) -> None:
    """A leak grows in every window; a table of the interpreter that doubles once is none."""
    script = SERVICE.format(path=str(path), calls=calls, windows=5)
    environment = {**os.environ, "PYTHONMALLOC": "malloc"}  # Python's own objects are counted, too
    process = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=300
    )
    assert process.returncode == 0, process.stderr
    *growth, threads = map(int, process.stdout.split())
    assert sorted(growth)[2] < 16 * calls, f"{growth} bytes over {calls} calls each"  # less than one object a call
    assert threads <= 0


@pytest.mark.parametrize("forks", [20, pytest.param(100, marks=pytest.mark.slow)])
def test_forked_processes(path: Path, forks: int) -> None:
    voice = engine.load(path, device="cpu", threads=3)
    mel = np.random.default_rng(0).random((8, 40), np.float32)
    expected = hashlib.sha256(voice.vocode(mel).tobytes()).digest()
    for number in range(forks):
        started = voice.stream(mel, chunk=16)
        next(started)
        child = os.fork()
        if child == 0:
            try:
                signal.alarm(60)
                audio = voice.vocode(mel) if number % 2 else np.concatenate(list(voice.stream(mel)))
                rest = sum(map(len, started))  # a stream that the parent started
                right = hashlib.sha256(audio.tobytes()).digest() == expected and rest == len(audio) - 16
                os._exit(0 if right else 3)
            finally:
                os._exit(4)
        assert sum(map(len, started)) == 144
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, f"fork {number}"
    assert hashlib.sha256(voice.vocode(mel).tobytes()).digest() == expected


# Prints the growth of a process that computes 10 minutes of audio, 50 MiB, without the arrays of the caller.
GROWTH = """
import sys, tempfile
from pathlib import Path
import numpy as np
sys.path.insert(0, {root!r})
from benchmarks import long_run
from engine.cli.bench import memory
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
        before = memory.resident()
        memory.reset_peak()
        audio = voice.vocode(mel, schedule=[0.1])
        assert len(audio) == frames * voice.hop
        print(memory.peak() - before - audio.nbytes)
    else:
        voice.vocode(np.zeros((8, 100), np.float32), schedule=[0.1])
        figures = long_run.run(voice, Path(folder) / "mel.npy", Path(folder) / "out.wav", schedule=[0.1])
        assert figures["audio_seconds"] > 599
        print(int(figures["mib_peak_growth"] * 2**20))
"""


@needs_proc
@pytest.mark.slow
@pytest.mark.parametrize("whole", [False, True], ids=["streamed to a file", "vocode"])
def test_memory_does_not_grow_with_the_length(path: Path, whole: bool) -> None:
    # The network is tiny: a copy of the audio or of the mel would exceed its memory by far.
    script = GROWTH.format(root=str(ROOT), path=str(path), whole=whole)
    process = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300)
    assert process.returncode == 0, process.stderr
    assert int(process.stdout) < 20 * MIB, f"{int(process.stdout) / MIB:.1f} MiB beside the audio"
