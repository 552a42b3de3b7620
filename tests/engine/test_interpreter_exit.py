"""Daemon threads inside the engine while the interpreter ends: the exit status is that of the main program."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from engine.checkpoint.load import Checkpoint, save_checkpoint
from engine.config import BASE, Config
from tests.support.networks import random_network

VOICE = Config(residual_channels=16, residual_layers=5, dilation_cycle=4, n_mels=20, upsample_strides=(4, 4))
SOUND = Config(residual_channels=16, residual_layers=5, dilation_cycle=4, n_mels=0, upsample_strides=(), mel_kind=None)

# A daemon thread repeats CALL. Once it runs, the main program ends as END says. In the last moments of the interpreter,
# when no other thread may run Python code, `Late` sleeps without the GIL: every call returns meanwhile and requests it.
PROGRAM = """
import sys, threading, time
import numpy as np
import engine
from engine.kernels import cpu

class Late:
    def __del__(self, sleep=time.sleep):
        sleep({late})

late, voice, sound = Late(), engine.load("voice.safetensors", threads=2), engine.load("sound.safetensors", threads=2)
mel, running = np.full((20, {frames}), 0.3, np.float32), threading.Event()
network = sound._loop._network

def report(fraction):
    time.sleep(0)

def streamed(pieces):
    for chunk in voice.stream(pieces):
        time.sleep(0)

def opened():
    d, terms = np.zeros((50, 5, 16), np.float32), np.ones((50, 3), np.float32)
    network.sweep(d, terms, clamp=True, threads=4, rows=96)

def repeat():
    while True:
        running.set()
        {call}

threading.Thread(target=repeat, daemon=True).start()
running.wait()
time.sleep(0.2)
{end}
"""
CALLS = {
    "vocode": "voice.vocode(mel)",
    "progress": "voice.vocode(mel, progress=report)",
    "a batch": "voice.vocode([mel, mel[:, :300]])",
    "a batch side by side": "voice.vocode([mel[:, :50]] * 8)",
    "streams": "list(voice.stream_batch([mel[:, :400], mel[:, :300]]))",
    "stream": "streamed(mel)",
    "stream of pieces": "streamed(mel[:, i : i + 5] for i in range(0, mel.shape[1], 5))",
    "generate": "sound.generate(samples=20000, steps=6, progress=report)",
    "denoise": "sound.denoise(np.zeros(20000, np.float32), t=5)",
    "noise": "cpu.normal(1, 0, 0, 1 << 20)",
    "peak": "cpu.peak('generic', 'fp32', 2, 0.05)",
    "a new sweep": "opened()",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("voices")
    for name, config in (("voice", VOICE), ("sound", SOUND)):
        save_checkpoint(folder / f"{name}.safetensors", Checkpoint(config, random_network(config, 0)))
    return folder


def run(
    folder: Path, call: str, end: str = "", frames: int = 3000, late: float = 0.4, preload: str = ""
) -> tuple[int, str]:
    program = PROGRAM.format(call=call, end=end, frames=frames, late=late)
    command, environment = [sys.executable, "-c", program], {**os.environ, "LD_PRELOAD": preload}
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, env=environment)
    return done.returncode, done.stderr


@pytest.mark.parametrize("name", CALLS)
def test_a_daemon_thread_does_not_change_the_exit_status(folder: Path, name: str) -> None:
    assert run(folder, CALLS[name]) == (0, "")


@pytest.mark.parametrize(
    ("end", "status"), [("sys.exit(3)", 3), ("raise SystemExit('stopped')", 1), ("raise ValueError('wrong')", 1)]
)
def test_the_exit_status_is_that_of_the_main_program(folder: Path, end: str, status: int) -> None:
    code, error = run(folder, CALLS["vocode"], end)
    assert code == status and error.strip().endswith(("stopped", "wrong", "")) and "terminate" not in error


def test_a_batch_that_is_left_open_does_not_keep_the_program_from_ending(tmp_path: Path) -> None:
    """Its finalizer runs after the interpreter stopped a thread in the middle of a tile, which takes long here."""
    save_checkpoint(tmp_path / "base.safetensors", Checkpoint(BASE, random_network(BASE, 0)))
    program = """
import numpy as np, engine
voice, mel = engine.load("base.safetensors", threads=1), np.full((80, 40), 0.3, np.float32)
left = voice.stream_batch([[mel], [mel]])
next(left)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("frames", [1, 40, 3000])
def test_calls_of_any_length_end_quietly(folder: Path, frames: int) -> None:
    """The interpreter ends at once, at an arbitrary point of a call."""
    for _ in range(3):
        assert run(folder, CALLS["stream"], frames=frames, late=0.0) == (0, "")


@pytest.mark.parametrize("call", ["voice.vocode([mel[:, :50]] * 8)", "sound.generate(n=8, samples=3000, steps=6)"])
def test_no_thread_is_started_after_the_end(folder: Path, call: str) -> None:
    """The interpreter refuses new threads before it stops the daemon thread, which then works alone."""
    for _ in range(6):
        assert run(folder, call, late=0.0) == (0, "")


def test_several_daemon_threads(folder: Path) -> None:
    end = "for _ in range(7): threading.Thread(target=repeat, daemon=True).start()\ntime.sleep(0.2)"
    assert run(folder, CALLS["progress"], end) == (0, "")


@pytest.mark.skipif(not sys.platform.startswith("linux") or shutil.which("cc") is None, reason="preloads a C library")
@pytest.mark.parametrize("name", ["vocode", "progress", "stream"])
def test_threads_that_hang_instead_of_exiting(folder: Path, tmp_path: Path, name: str) -> None:
    """Python 3.14 hangs a thread that requests the GIL of an interpreter that ends; older versions end the thread."""
    (tmp_path / "hang.c").write_text(
        "#include <unistd.h>\n"
        'void pthread_exit(void* value) { (void)value; (void)!write(2, "hung\\n", 5); for (;;) pause(); }\n'
    )
    library = tmp_path / "hang.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-w", tmp_path / "hang.c", "-o", library], check=True)
    expected = "" if sys.version_info >= (3, 14) else "hung\n"
    assert run(folder, CALLS[name], preload=str(library)) == (0, expected)


# A thread that is no daemon keeps the interpreter from ending, but the executors of Python refuse work from then on.
OUTLIVING = """
import sys, threading
import numpy as np
import engine

voice = engine.load("speech.safetensors", threads=3)
mel = np.random.default_rng(0).uniform(0.2, 0.7, (80, 200)).astype(np.float32)
options = dict(steps=1, draft="griffin-lim", match_mel=1)
expected = voice.vocode(mel, **options).tobytes()

def work():
    if threading.current_thread() is not threading.main_thread():
        threading.main_thread().join()
    print(voice.vocode(mel, **options).tobytes() == expected)

{start}
"""


@pytest.mark.parametrize(
    "start", ["threading.Thread(target=work).start()", "import atexit; atexit.register(work)"], ids=["thread", "atexit"]
)
def test_drafts_and_matches_after_the_main_program(tmp_path: Path, start: str) -> None:
    config = Config(residual_channels=8, residual_layers=3, dilation_cycle=3)
    save_checkpoint(tmp_path / "speech.safetensors", Checkpoint(config, random_network(config, 0)))
    program = OUTLIVING.format(start=start)
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")
