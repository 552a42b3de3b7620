"""Streams beside the whole-utterance call: their cost and their latency.

A plain run of pytest uses a few frames.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest

import engine
from benchmarks.cpu import streaming
from benchmarks.cpu.bench_vocode import SEED, VoiceOf, mels_for
from engine.checkpoint.bundled import BUNDLED
from engine.checks.arrays import FloatArray
from engine.errors import UnavailableError

ROUNDS = 5
STEPS = {"6 steps": 6, "3 steps": 3, "2 steps": 2}
PIECES = (1, 16)  # frames


@pytest.mark.benchmark(group="streams, 1 thread")
def test_overhead(benchmark: Any, results: dict[str, Any]) -> None:
    """Time one utterance on one thread, in one call and streamed in pieces: the audio is the same."""
    frames = 86 if benchmark.enabled else 4
    mel = mels_for("4 s", True)[0][:, :frames]
    voice = engine.load(BUNDLED if BUNDLED.is_file() else None, device="cpu", precision="fp32", threads=1)
    audio: dict[str, FloatArray] = {}

    def recorded(name: str, call: Callable[[], FloatArray]) -> Callable[[], None]:
        def run() -> None:
            audio[name] = call()

        return run

    def streamed(pieces: Callable[[], Any]) -> Callable[[], FloatArray]:
        return lambda: np.concatenate(list(voice.stream(pieces(), seed=SEED)))

    sources: dict[str, Callable[[], FloatArray]] = {
        "vocode": lambda: voice.vocode(mel, seed=SEED),
        "stream, whole mel": streamed(lambda: mel),
        **{
            f"stream, pieces of {size}": streamed(lambda size=size: streaming.in_pieces(mel, size))  # type: ignore[misc]
            for size in PIECES
        },
    }
    calls = {name: recorded(name, call) for name, call in sources.items()}
    rounds = ROUNDS if benchmark.enabled else 1
    rows = benchmark.pedantic(streaming.time_alternately, (calls, rounds), warmup_rounds=0)
    assert len({samples.tobytes() for samples in audio.values()}) == 1  # every timed call computes the same audio
    title = f"{frames * voice.hop / voice.sample_rate:.1f} s, 1 thread, {voice.choice.isa} {voice.choice.precision}"
    results["streams"].append({"title": title, "threads": 1, "precision": voice.choice.precision, "rows": rows})


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("precision", ["bf16", "fp32"])
@pytest.mark.benchmark(group="first audio")
def test_first_audio(benchmark: Any, voice_of: VoiceOf, results: dict[str, Any], precision: str, steps: str) -> None:
    """Time streams from a front-end that writes frames at the speed of speech, and from a complete mel."""
    try:
        voice = voice_of(precision)
    except UnavailableError as error:
        pytest.skip(str(error))
    count = STEPS[steps]
    mel = mels_for("4 s", True)[0][:, : 320 if benchmark.enabled else 4]
    pace = voice.hop / voice.sample_rate
    begin = time.perf_counter()
    expected = voice.vocode(mel, seed=SEED, steps=count)
    vocode_ms = 1000 * (time.perf_counter() - begin)

    def run(source: Callable[[float], Iterable[FloatArray] | FloatArray]) -> streaming.Timeline:
        begin = time.perf_counter()
        chunks = voice.stream(source(begin), seed=SEED, steps=count)
        return streaming.timeline(chunks, voice.sample_rate, begin)

    line = benchmark.pedantic(run, (lambda begin: streaming.paced(mel, 1, pace, begin),), rounds=1)
    for source, points in (("paced", line), ("at once", run(lambda begin: mel))):
        assert round(points[-1][1] * voice.sample_rate) == len(expected)
        results["streams"].append(
            {
                "title": f"{source} mel, {steps}, {voice.choice.isa} {precision}, {voice.threads} threads",
                "source": source,
                "steps": steps,
                "precision": precision,
                "threads": voice.threads,
                "audio_seconds": len(expected) / voice.sample_rate,
                "vocode_ms": vocode_ms,
                **streaming.played(points),
            }
        )


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.benchmark(group="cancelling")
def test_cancelling(benchmark: Any, results: dict[str, Any], count: int) -> None:
    """Time from setting the event, in the middle of the work, to Cancelled."""
    voice, mel = engine.load(device="cpu", precision="fp32", threads=count), mels_for("4 s", True)[0]
    random = np.random.default_rng(0)

    def cancel() -> float:
        event, times = threading.Event(), []

        def fire() -> None:
            times.append(time.perf_counter())
            event.set()

        timer = threading.Timer(0.2 + 0.1 * random.random(), fire)
        timer.start()
        with pytest.raises(engine.Cancelled):
            for _ in voice.stream(mel, cancel=event):
                pass
        return 1000 * (time.perf_counter() - times[0])

    times = benchmark.pedantic(lambda: [cancel() for _ in range(12 if benchmark.enabled else 1)])
    title = f"cancelling, 6 steps, {voice.choice.isa} {voice.choice.precision}, {count} threads"
    results["streams"].append({"title": title, "threads": count, "cancelled_ms": times})


def test_a_player_waits_while_its_buffer_is_empty() -> None:
    """Chunks of 1 s arrive at 1, 1.5 and 4 s: the player plays from 1 to 3, waits a second, and ends at 5."""
    figures = streaming.played([(1.0, 1.0), (1.5, 2.0), (4.0, 3.0)])
    assert (figures["first_audio_ms"], figures["underruns"]) == (1000.0, 1)
    assert figures["waited_ms"] == pytest.approx(1000.0)
    assert figures["played"] == [(1.0, 0.0), (3.0, 2.0), (4.0, 2.0), (5.0, 3.0)]
    assert streaming.played([(0.5, 9.0)])["underruns"] == 0
