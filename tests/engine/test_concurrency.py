"""One voice used by several Python threads, and by processes forked from the one that loaded it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import engine
from engine import Voice
from engine.checkpoint.load import Checkpoint, save_checkpoint
from engine.config import Config
from engine.kernels import cpu
from engine.sampling.cpu.loop import SHORT
from tests.support.networks import random_network

CONFIG = Config(residual_channels=16, residual_layers=5, dilation_cycle=4, n_mels=20, upsample_strides=(4, 4))
PLAIN = replace(CONFIG, n_mels=0, upsample_strides=(), mel_kind=None)
LONG = SHORT // CONFIG.hop + 1  # frames

Array = npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def voice(tmp_path_factory: pytest.TempPathFactory) -> Voice:
    path = tmp_path_factory.mktemp("voice") / "voice.safetensors"
    save_checkpoint(path, Checkpoint(CONFIG, random_network(CONFIG, 0)))
    return engine.load(path, threads=3)


def a_mel(frames: int, seed: int = 0) -> Array:
    return np.random.default_rng((seed, frames)).random((CONFIG.n_mels, frames), np.float32)


def gaussian(*shape: int) -> Array:
    return np.random.default_rng(shape).standard_normal(shape, np.float32)


def test_several_python_threads_share_a_voice(voice: Voice) -> None:
    mels = [a_mel(frames, seed) for seed, frames in enumerate((3, LONG, 40, 200, 7, LONG + 9, 1, 90))]
    expected = [voice.vocode(mel, seed=seed).tobytes() for seed, mel in enumerate(mels)]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(3):
            audio = pool.map(lambda seed: voice.vocode(mels[seed], seed=seed).tobytes(), range(len(mels)))
            assert list(audio) == expected


def test_other_python_threads_run_meanwhile() -> None:
    """Ticks are counted within one call of the native code."""
    rows, ticks, done = 48000, [], threading.Event()
    d, terms = np.zeros((1, 5, 16), np.float32), np.float32([[0.9, 0.1, 0.0]])
    network = cpu.CpuNetwork(PLAIN, random_network(PLAIN, 1), "generic", "fp32")
    sweep = network.sweep(d, terms, clamp=True, threads=1, rows=rows)
    sweep.bind(gaussian(rows))

    def tick() -> None:
        while not done.wait(0.001):
            ticks.append(time.perf_counter())

    clock = threading.Thread(target=tick)
    clock.start()
    begin = time.perf_counter()
    sweep.advance(0, 0, rows)
    end = time.perf_counter()
    done.set()
    clock.join()
    assert sum(begin < moment < end for moment in ticks) >= 3, f"in {end - begin:.3f} s"


def in_child(work: Callable[[], bytes]) -> bytes:
    """Return what the work returns in a forked child; fail with the child, or after a minute."""
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            signal.alarm(60)
            with os.fdopen(theirs, "wb") as pipe:
                pipe.write(work())
            os._exit(0)
        finally:
            os._exit(1)
    os.close(theirs)
    with os.fdopen(ours, "rb") as pipe:
        content = pipe.read()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    return content


def test_a_forked_child_can_use_its_parents_voice(voice: Voice) -> None:
    mels = [a_mel(7), a_mel(9), a_mel(LONG)]

    def work() -> bytes:
        return b"".join(audio.tobytes() for audio in voice.vocode(mels))

    expected = work()
    assert in_child(work) == expected
    assert in_child(lambda: in_child(work)) == expected
    assert work() == expected


@pytest.mark.parametrize("wait", [0.0, 0.05])
def test_a_sweep_can_continue_in_a_forked_child(wait: float) -> None:
    """Threads that the child does not have begin several sweeps; they are awake or asleep at the fork."""
    network, x = cpu.CpuNetwork(PLAIN, random_network(PLAIN, 1), "generic", "fp32"), gaussian(3000)
    d, terms = 0.1 * gaussian(1, 5, 16), np.float32([[0.0, 1.0, 0.0]])

    def begin_sweep() -> tuple[Array, Any]:
        mine = x.copy()
        sweep = network.sweep(d, terms, clamp=False, threads=3, rows=48, length=len(mine))
        sweep.bind(mine)
        for begin in range(0, 10 * sweep.tile, sweep.tile):
            sweep.advance(0, begin, sweep.tile)
        return mine, sweep

    def finish(pairs: list[tuple[Array, Any]]) -> bytes:
        for mine, sweep in pairs:
            for begin in range(10 * sweep.tile, len(mine) + PLAIN.reach, sweep.tile):
                sweep.advance(0, begin, sweep.tile)
                time.sleep(0.001)  # the threads fall asleep and have to be woken
        audio = b"".join(mine.tobytes() for mine, _ in pairs)
        pairs.clear()
        return audio

    expected = finish([begin_sweep() for _ in range(3)])
    pairs, untouched = [begin_sweep() for _ in range(3)], begin_sweep()
    time.sleep(wait)

    def work() -> bytes:
        nonlocal untouched
        audio = finish(pairs)
        del untouched
        return audio

    assert in_child(work) == expected
    assert finish(pairs) == expected


def test_a_fork_while_another_thread_works(voice: Voice) -> None:
    mel, done = a_mel(LONG), threading.Event()
    expected = voice.vocode(mel).tobytes()
    voice.vocode(a_mel(1), steps="full")  # the schedule is computed once, by NumPy, whose BLAS cannot be forked at work

    def busy() -> None:
        while not done.is_set():
            voice.vocode(a_mel(50), steps="full")

    threads = [threading.Thread(target=busy) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(5):
            assert in_child(lambda: voice.vocode(mel).tobytes()) == expected
    finally:
        done.set()
        for thread in threads:
            thread.join()


_inherited: Voice | None = None


def _vocode_inherited(seed: int) -> bytes:
    assert _inherited is not None
    audio: Array = _inherited.vocode(a_mel(20), seed=seed)
    return audio.tobytes()


def test_a_pool_of_forked_processes(voice: Voice, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "_inherited", voice)
    expected = [_vocode_inherited(seed) for seed in range(4)]
    with ProcessPoolExecutor(2, multiprocessing.get_context("fork")) as pool:
        assert list(pool.map(_vocode_inherited, range(4), timeout=60)) == expected
