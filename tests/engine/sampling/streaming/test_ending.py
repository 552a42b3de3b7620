"""Streams that end early: cancelled, closed, interrupted, or failing in the middle."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engine import Cancelled, InputError, Voice
from engine.checkpoint.load import Checkpoint, save_checkpoint
from tests.support.networks import random_network
from tests.support.paths import ROOT
from tests.support.streams import CONFIGS, EXTRA, SMALL, Array, a_mel, cut


def test_an_event_cancels_a_stream(voice: Voice) -> None:
    event = threading.Event()
    chunks = voice.stream(a_mel(600), cancel=event)
    next(chunks)
    event.set()
    with pytest.raises(Cancelled, match="its event set"):
        next(chunks)
    with pytest.raises(StopIteration):
        next(chunks)
    with pytest.raises(Cancelled):
        voice.open_stream(cancel=event).feed(a_mel(5))


def test_close_ends_a_stream(voice: Voice) -> None:
    with voice.stream(a_mel(600)) as chunks:
        next(chunks)
    assert list(chunks) == []
    chunks.close()
    stream = voice.open_stream()
    stream.close()
    for call in (lambda: stream.feed(a_mel(5)), stream.finish):
        with pytest.raises(Cancelled, match="the stream was closed"):
            call()


def test_close_from_another_thread_stops_work_in_progress(voice: Voice) -> None:
    source_waits, go_on = threading.Event(), threading.Event()

    def slowly() -> Iterator[Array]:
        yield a_mel(40)
        source_waits.set()
        go_on.wait(30)
        yield a_mel(600)

    chunks, caught = voice.stream(slowly()), []

    def consume() -> None:
        try:
            for _ in chunks:
                pass
        except (Cancelled, InputError) as error:
            caught.append(error)

    consumer = threading.Thread(target=consume)
    consumer.start()
    assert source_waits.wait(30)
    chunks.close()
    go_on.set()
    consumer.join(30)
    assert not consumer.is_alive() and len(caught) == 1 and list(chunks) == []


@pytest.mark.parametrize("kind", [memoryview, bytearray, lambda mel: torch.from_numpy(mel).to_sparse()])
def test_what_is_no_mel_is_refused_before_it_is_cut(voice: Voice, kind: Callable[[Array], Any]) -> None:
    with pytest.raises(InputError, match="expected a"):
        list(voice.stream(kind(a_mel(9))))


def test_a_source_that_reads_its_own_stream_is_refused(voice: Voice) -> None:
    def source() -> Iterator[Array]:
        yield a_mel(9)
        next(stream)

    stream, raised = voice.stream(source()), []

    def read() -> None:
        try:
            list(stream)
        except InputError as error:
            raised.append(str(error))

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    reader.join(60)
    assert raised == ["stream: expected a source that does not read the stream's own audio"]


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="needs signals of POSIX")
def test_close_in_a_signal_handler(tmp_path: Path) -> None:
    """The handler runs in the thread that computes, in the middle of its work."""
    save_checkpoint(tmp_path / "voice.safetensors", Checkpoint(SMALL, random_network(SMALL, 0)))
    program = """
import os, signal, sys, threading
import numpy as np, engine

class Cancel:  # asked in the middle of the work
    asked = 0
    def is_set(self):
        self.asked += 1
        if self.asked == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return False

def close(*_):
    for call in (stream.finish, lambda: stream.feed(mel)):
        try:
            call()
        except engine.InputError as error:
            print(error)
    stream.close()

voice = engine.load("voice.safetensors", threads=1)
stream, mel = voice.open_stream(cancel=Cancel()), np.zeros((20, 3000), np.float32)
signal.signal(signal.SIGTERM, close)
try:
    stream.feed(mel)
except engine.Cancelled:
    print("cancelled", stream.bytes)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    refused = "stream: it is at work in this thread; expected the call after its end"
    assert done.stdout.splitlines() == [refused, refused, "cancelled 0"], done.stderr


def test_close_between_two_pieces_is_a_cancellation(voice: Voice) -> None:
    def front_end() -> Iterator[Array]:
        yield a_mel(40)
        other = threading.Thread(target=stream.close)
        other.start()
        other.join()
        yield a_mel(40)

    stream = voice.stream(front_end())
    with pytest.raises(Cancelled):
        list(stream)
    assert list(stream) == []


def test_any_order_of_calls_from_any_threads(voice: Voice) -> None:
    """feed, finish, next and close at once: audio, Cancelled, InputError of a finished stream, or the end."""
    mel, rng = a_mel(60), random.Random(0)
    expected = voice.vocode(mel).tobytes()
    for turn in range(60):
        stream, chunks = voice.open_stream(), voice.stream(cut(mel, 7), chunk=rng.choice([None, 50]))
        unexpected: list[BaseException] = []
        audio: list[Array] = []

        def call(action: Callable[[], object], delay: float) -> None:
            time.sleep(delay)
            try:
                action()
            except (Cancelled, InputError, StopIteration):
                pass
            except BaseException as error:
                unexpected.append(error)  # noqa: B023

        def read() -> None:
            audio.extend(chunks)  # noqa: B023

        actions: list[Callable[[], object]] = [
            *(lambda: stream.feed(mel) for _ in range(3)),  # noqa: B023
            stream.finish,
            stream.finish,
            *(lambda: next(chunks) for _ in range(3)),  # noqa: B023
        ]
        if turn % 3:
            actions += [stream.close, chunks.close, stream.close, chunks.close]
        else:
            actions = [read, *actions[:5]]
        rng.shuffle(actions)
        threads = [threading.Thread(target=call, args=(action, rng.random() * 0.005)) for action in actions]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in threads) and not unexpected
        if not turn % 3:
            assert b"".join(part.tobytes() for part in audio) == expected
        stream.close()
        chunks.close()
        assert stream.bytes == chunks._stream.bytes == 0


STALLED = """
import os, queue, signal, threading
import numpy as np
import engine
voice = engine.load({path!r}, device="cpu", threads=1)
def source():
    yield np.full((20, 40), 0.5, np.float32)
    queue.Queue().get()
signal.signal(signal.SIGINT, signal.default_int_handler)  # it may be ignored by a parent in the background
threading.Timer({delay}, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
try:
    for _ in voice.stream_batch([source() for _ in range({streams})]):
        pass
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("streams", [1, 3])
def test_control_c_ends_a_program_whose_sources_stall(tmp_path: Path, streams: int) -> None:
    save_checkpoint(tmp_path / "v.safetensors", Checkpoint(SMALL, random_network(SMALL, 0)))
    script = STALLED.format(path=str(tmp_path / "v.safetensors"), delay=1.0, streams=streams)
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "interrupted\n", "")


def test_a_failing_source_ends_a_batch(voice: Voice) -> None:
    def failing() -> Iterator[Array]:
        yield a_mel(5)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(voice.stream_batch([a_mel(5), failing()]))


def test_a_bad_piece_leaves_a_stream_unchanged(voice: Voice) -> None:
    mel = a_mel(30)
    stream = voice.open_stream(seed=4)
    audio = [stream.feed(mel[:, :11])]
    for bad, message in (
        (a_mel(3).T, "looks transposed"),
        (a_mel(3) * np.nan, "finite"),
        (a_mel(3)[:19], "20 mel bands"),
    ):
        with pytest.raises(InputError, match=message):
            stream.feed(bad)
    audio += [stream.feed(mel[:, 11:]), stream.finish()]
    assert np.concatenate(audio).tobytes() == voice.vocode(mel, seed=4).tobytes()
    with pytest.raises(InputError, match="finished"):
        stream.feed(mel)


def test_predicted_values_are_clipped_as_in_vocode(voices: dict[str, Voice]) -> None:
    """A value outside the range, seen early or late, changes no byte against vocode and warns once."""
    for name, low, high in (("lmnt", -0.2, 1.1), ("prior", -13.0, 5.5)):
        voice, extra = voices[name], EXTRA.get(name, {})
        mel = a_mel(40, config=CONFIGS[name])
        mel[3, 2], mel[4, 30], mel[0, 39] = low, high, low
        with pytest.warns(UserWarning, match="; 3 of 800 were clipped") as caught:
            expected = voice.vocode(mel, **extra)
        assert len(caught) == 1
        assert (
            expected.tobytes() == voice.vocode(mel.clip(*((0, 1) if name == "lmnt" else (-12, 5))), **extra).tobytes()
        )
        with pytest.warns(UserWarning, match="were clipped") as caught:
            audio = np.concatenate(list(voice.stream(cut(mel, 3), **extra)))
        assert len(caught) == 1 and audio.tobytes() == expected.tobytes()


@pytest.mark.filterwarnings("ignore:.*were clipped")
def test_no_value_ends_a_stream_that_has_begun(voice: Voice) -> None:
    mel = a_mel(40)
    mel[5, 20] = -9.0
    with pytest.raises(InputError, match="wants 'lmnt' mels"):
        voice.vocode(mel)
    with pytest.raises(InputError, match=r"piece 0: .*wants 'lmnt' mels"):
        list(voice.stream(cut(mel, 21)))
    audio = np.concatenate(list(voice.stream(cut(mel, 20))))
    assert audio.tobytes() == voice.vocode(mel.clip(0, 1)).tobytes()
