"""Streams beside the whole-utterance call: what they cost, when their audio comes. A plain run uses a few frames."""

import threading
import time

import numpy as np
import pytest

import engine
from benchmarks import streaming
from benchmarks.bench_vocode import SEED, mels_for
from engine.errors import UnavailableError
from engine.voice import BUNDLED

ROUNDS = 5
# Two steps, so that slower machines keep up, too: it shows the stream, not the sound.
SCHEDULES = {"6 steps": None, "2 steps": (0.01, 0.5)}
PIECES = (1, 16)  # frames


@pytest.mark.benchmark(group="streams, 1 thread")
def test_overhead(benchmark, checkpoint, kept):
    """One thread, one utterance: the same audio in one call, and streamed from pieces."""
    frames = 86 if benchmark.enabled else 4
    mel = mels_for("4 s", True)[0][:, :frames]
    voice = engine.load(BUNDLED if BUNDLED.is_file() else None, device="cpu", precision="fp32", threads=1)
    made = {}

    def of(name, call):
        def run():
            made[name] = call()

        return run

    contenders = {"vocode": of("vocode", lambda: voice.vocode(mel, seed=SEED))}
    contenders["stream, whole mel"] = of("whole", lambda: np.concatenate(list(voice.stream(mel, seed=SEED))))
    for size in PIECES:

        def call(size=size):
            return np.concatenate(list(voice.stream(streaming.in_pieces(mel, size), seed=SEED)))

        contenders[f"stream, pieces of {size}"] = of(size, call)
    rows = benchmark.pedantic(
        streaming.rows_in_turns, (contenders, ROUNDS if benchmark.enabled else 1), warmup_rounds=0
    )
    assert len({audio.tobytes() for audio in made.values()}) == 1  # what was timed is the same audio
    title = f"{frames * voice.hop / voice.sample_rate:.1f} s, 1 thread, {voice.choice.isa} {voice.choice.precision}"
    kept["streams"].append({"title": title, "threads": 1, "precision": voice.choice.precision, "rows": rows})


@pytest.mark.parametrize("steps", SCHEDULES)
@pytest.mark.parametrize("precision", ["bf16", "fp32"])
@pytest.mark.benchmark(group="first audio")
def test_first_audio(benchmark, voice_of, kept, precision, steps):
    """From a front-end that writes mel frames at the speed of speech, and from a mel that is there already."""
    try:
        voice = voice_of(precision)
    except UnavailableError as error:
        pytest.skip(str(error))
    schedule = SCHEDULES[steps]
    mel = mels_for("4 s", True)[0][:, : 320 if benchmark.enabled else 4]
    pace = voice.hop / voice.sample_rate
    begin = time.perf_counter()
    expected = voice.vocode(mel, seed=SEED, schedule=schedule)
    vocode_ms = 1000 * (time.perf_counter() - begin)

    def run(make):
        begin = time.perf_counter()
        chunks = voice.stream(make(begin), seed=SEED, schedule=schedule)
        return streaming.timeline(chunks, voice.sample_rate, begin)

    line = benchmark.pedantic(run, (lambda begin: streaming.paced(mel, 1, pace, begin),), rounds=1)
    for source, one in (("paced", line), ("at once", run(lambda begin: mel))):
        assert round(one[-1][1] * voice.sample_rate) == len(expected)
        kept["streams"].append(
            {
                "title": f"{source} mel, {steps}, {voice.choice.isa} {precision}, {voice.threads} threads",
                "source": source,
                "steps": steps,
                "precision": precision,
                "threads": voice.threads,
                "audio_seconds": len(expected) / voice.sample_rate,
                "vocode_ms": vocode_ms,
                **streaming.played(one),
            }
        )


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.benchmark(group="cancelling")
def test_cancelling(benchmark, kept, count):
    """From setting the event, in the middle of the work, to Cancelled."""
    voice, mel = engine.load(device="cpu", precision="fp32", threads=count), mels_for("4 s", True)[0]
    random = np.random.default_rng(0)

    def once():
        event, at = threading.Event(), []

        def fire():
            at.append(time.perf_counter())
            event.set()

        timer = threading.Timer(0.2 + 0.1 * random.random(), fire)
        timer.start()
        with pytest.raises(engine.Cancelled):
            for _ in voice.stream(mel, cancel=event):
                pass
        return 1000 * (time.perf_counter() - at[0])

    laps = benchmark.pedantic(lambda: [once() for _ in range(12 if benchmark.enabled else 1)])
    title = f"cancelling, 6 steps, {voice.choice.isa} {voice.choice.precision}, {count} threads"
    kept["streams"].append({"title": title, "threads": count, "cancelled_ms": laps})


def test_a_player_waits_where_there_is_nothing_to_play():
    """Chunks of 1 s at 1, 1.5 and 4 s: it plays from 1 to 3, waits a second, and ends at 5."""
    found = streaming.played([(1.0, 1.0), (1.5, 2.0), (4.0, 3.0)])
    assert (found["first_audio_ms"], found["underruns"]) == (1000.0, 1)
    assert found["waited_ms"] == pytest.approx(1000.0)
    assert found["played"] == [(1.0, 0.0), (3.0, 2.0), (4.0, 2.0), (5.0, 3.0)]
    assert streaming.played([(0.5, 9.0)])["underruns"] == 0
