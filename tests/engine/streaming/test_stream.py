"""Streams give the bytes of vocode as soon as they are final, and stop when told."""

from __future__ import annotations

import gc
import random
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

import engine
from engine import Cancelled, InputError, Voice
from engine.checkpoint.load import Checkpoint, save_checkpoint
from engine.config import BASE, Config
from engine.sampling.cpu import pipeline
from tests.support.networks import random_network
from tests.support.paths import ROOT

SMALL = Config(residual_channels=16, residual_layers=5, dilation_cycle=4, n_mels=20, upsample_strides=(4, 4))
CONFIGS = {
    "lmnt": SMALL,
    "reflect": replace(SMALL, padding="reflect", mel_kind=None),
    "reflect, hop 2": replace(SMALL, padding="reflect", mel_kind=None, upsample_strides=(2,)),
    "an upsampler for each layer": replace(SMALL, shared_upsampler=False, upsample_strides=(6, 2, 4)),
    "prior": replace(SMALL, prior=True, mel_kind="hifigan"),
    "hop 15": replace(SMALL, upsample_strides=(3, 5)),
    "hop 105, reflect": replace(SMALL, upsample_strides=(7, 3, 5), shared_upsampler=False, padding="reflect"),
    "20 channels": replace(SMALL, residual_channels=20),
    "8 steps": replace(SMALL, train_schedule=tuple(np.linspace(1e-4, 0.05, 8).tolist()), fast_schedule=None),
}
EXTRA: dict[str, dict[str, Any]] = {"prior": {"energy_min": 0.5}, "8 steps": {"steps": "full"}}

Array = npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def voices(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Voice]:
    folder = tmp_path_factory.mktemp("voices")
    return {name: load(folder / f"{n}.safetensors", config) for n, (name, config) in enumerate(CONFIGS.items())}


@pytest.fixture(scope="module")
def voice(voices: dict[str, Voice]) -> Voice:
    return voices["lmnt"]


def load(path: Path, config: Config, threads: int = 2) -> Voice:
    save_checkpoint(path, Checkpoint(config, random_network(config, 0)))
    return engine.load(path, device="cpu", threads=threads)


def a_mel(frames: int, seed: int = 0, config: Config = SMALL) -> Array:
    mel = np.random.default_rng((seed, frames)).random((config.n_mels, frames), np.float32)
    return mel * np.float32(3) - np.float32(2) if config.prior else mel


def cut(mel: Array, *sizes: int) -> Iterator[Array]:
    """Pieces of these sizes in turns."""
    begin = turn = 0
    while begin < mel.shape[1]:
        yield mel[:, begin : begin + sizes[turn % len(sizes)]].copy()
        begin, turn = begin + sizes[turn % len(sizes)], turn + 1


# Identical bytes


@pytest.mark.parametrize("frames", [5, 6, 40, 301])
@pytest.mark.parametrize("name", CONFIGS)
def test_a_stream_is_the_whole(voices: dict[str, Voice], name: str, frames: int) -> None:
    voice, extra = voices[name], {"seed": 7, **EXTRA.get(name, {})}
    mel = a_mel(frames, config=CONFIGS[name])
    expected = voice.vocode(mel, **extra).tobytes()
    for sizes, chunk in (((frames,), None), ((1,), None), ((3, 0, 100), 100), ((64, 65), 1), ((1024,), 10**6)):
        chunks = list(voice.stream(cut(mel, *sizes), chunk=chunk, **extra))
        assert b"".join(chunk.tobytes() for chunk in chunks) == expected, f"pieces of {sizes}"
        if chunk is not None:
            assert {len(part) for part in chunks[:-1]} <= {chunk} and 0 < len(chunks[-1]) <= chunk
        assert all(isinstance(part, np.ndarray) and part.dtype == np.float32 and len(part) for part in chunks)
    assert b"".join(part.tobytes() for part in voice.stream(mel, **extra)) == expected


@pytest.mark.parametrize("strides", [(15, 20), (10, 30), (11, 25), (21, 21)])
def test_hops_of_real_recipes(tmp_path: Path, strides: tuple[int, ...]) -> None:
    """A sample is final as soon as the look-ahead of the configuration says so, and not a frame later."""
    config = replace(SMALL, upsample_strides=strides)
    voice, mel = load(tmp_path / "v.safetensors", config), a_mel(23, config=config)
    expected = voice.vocode(mel, seed=7).tobytes()
    assert b"".join(chunk.tobytes() for chunk in voice.stream(cut(mel, 1, 2), seed=7)) == expected
    with voice.open_stream(seed=7) as stream:
        for frame in range(1, 24):
            stream.feed(mel[:, frame - 1 : frame])
            final = frame * config.hop - config.look_ahead(6) + 1
            assert stream.samples <= max(final, 0)
            assert stream.samples > final - 200
    changed = mel.copy()
    changed[:, 12:] = 0.0
    audio = [voice.vocode(m, steps="fast", seed=7) for m in (mel, changed)]
    first = int(np.argmax(audio[0] != audio[1]))
    assert first >= 12 * config.hop - config.look_ahead(6) + 1


@pytest.mark.parametrize("name", ["lmnt", "8 steps", "an upsampler for each layer"])
def test_a_small_memory_budget_changes_no_byte(
    voices: dict[str, Voice], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    voice, extra = voices[name], EXTRA.get(name, {})
    mel = a_mel(150)
    expected = voice.vocode(mel, **extra).tobytes()
    with voice.open_stream(**extra) as roomy:
        monkeypatch.setattr(pipeline, "STEPS_PER_SWEEP", 1)
        with voice.open_stream(**extra) as lean:
            assert len(lean._window.pipeline.sweeps) > len(roomy._window.pipeline.sweeps)  # type: ignore[union-attr]
            audio = [lean.feed(piece) for piece in cut(mel, 7)] + [lean.finish()]
    assert b"".join(part.tobytes() for part in audio) == expected


@pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt])
def test_a_stream_ends_after_an_incomplete_tile(
    voice: Voice, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    def fails(*_: object) -> bool:
        raise error

    with voice.open_stream() as stream:
        with monkeypatch.context() as patch, pytest.raises(error):
            patch.setattr(pipeline.StepPipeline, "advance", fails)
            stream.feed(a_mel(200))
        assert stream.bytes == 0
        with pytest.raises(Cancelled, match="closed, or failed"):
            stream.feed(a_mel(1))


def test_the_callers_buffer_may_be_used_again(voice: Voice) -> None:
    mel, buffer = a_mel(50), np.empty((20, 5), np.float32)

    def reusing() -> Iterator[Array]:
        for piece in cut(mel, 5):
            buffer[:] = piece
            yield buffer
            buffer[:] = np.nan

    chunks = list(voice.stream(reusing()))
    assert np.concatenate(chunks).tobytes() == voice.vocode(mel).tobytes()


def test_torch_in_torch_out(voice: Voice) -> None:
    mel = a_mel(30)
    expected = voice.vocode(mel)
    for chunk in (None, 100):
        chunks = list(voice.stream((torch.from_numpy(piece) for piece in cut(mel, 4)), chunk=chunk))
        assert all(isinstance(part, torch.Tensor) for part in chunks)
        assert torch.cat(chunks).numpy().tobytes() == expected.tobytes()


def test_streams_side_by_side(voice: Voice) -> None:
    """Streams fed by hand in turns, and streams in threads of their own, each at its own position."""
    mels = [a_mel(frames, seed) for seed, frames in enumerate((40, 1, 133, 40))]
    expected = [voice.vocode(mel, seed=seed).tobytes() for seed, mel in enumerate(mels)]
    streams = [voice.open_stream(seed=seed, streams=4) for seed in range(4)]
    audios: list[list[Array]] = [[] for _ in mels]
    for begin in range(0, 133, 7):
        for stream, mel, audio in zip(streams, mels, audios, strict=True):
            audio.append(stream.feed(mel[:, begin : begin + 7]))
    for stream, audio in zip(streams, audios, strict=True):
        audio.append(stream.finish())
    assert [np.concatenate(audio).tobytes() for audio in audios] == expected

    audios = [[] for _ in mels]
    for number, chunk in voice.stream_batch([cut(mel, 9) for mel in mels], seed=[0, 1, 2, 3], chunk=50):
        audios[number].append(chunk)
    assert [np.concatenate(audio).tobytes() for audio in audios] == expected


def test_closing_a_batch_does_not_wait_for_its_sources(voice: Voice) -> None:
    go_on = threading.Event()

    def slowly() -> Iterator[Array]:
        go_on.wait(60)
        yield a_mel(5)

    chunks = voice.stream_batch([a_mel(600), slowly()])
    assert next(chunks)[0] == 0
    chunks.close()  # type: ignore[attr-defined]
    assert not go_on.is_set()
    go_on.set()


def test_a_piece_may_be_all_silence(voices: dict[str, Voice], recwarn: pytest.WarningsRecorder) -> None:
    """Values in [0, 1] throughout are suspicious in a whole logarithmic mel, but not in a piece of one."""
    mel = np.full((20, 3), 0.5, np.float32)
    list(voices["prior"].stream(mel, energy_min=0.5))
    assert not recwarn.list
    voices["prior"].vocode(mel, energy_min=0.5)
    assert len(recwarn.list) == 1


# Streaming latency


def test_base_looks_ahead_73_frames() -> None:
    assert BASE.look_ahead(6) == 6 * 3069 + 136 + 1
    assert -(-BASE.look_ahead(6) // BASE.hop) == 73 and round(BASE.look_ahead(6) / BASE.sample_rate, 2) == 0.84
    assert round(73 * BASE.hop / BASE.sample_rate, 3) == 0.848


@pytest.mark.parametrize("name", CONFIGS)
def test_audio_follows_the_mel_at_the_look_ahead(voices: dict[str, Voice], name: str) -> None:
    """Audio follows the mel at the look-ahead, within one register tile of 12 samples."""
    voice, config = voices[name], CONFIGS[name]
    stream = voice.open_stream(**EXTRA.get(name, {}))
    ahead = config.look_ahead(8 if name == "8 steps" else 6)
    for piece in cut(a_mel(60, config=config), 1, 2):
        stream.feed(piece)
        known = stream.frames * voice.hop
        assert known - ahead - 11 < stream.samples or known < ahead + 12
        assert stream.samples <= max(known - ahead + 1, 0)
    assert stream.samples > 0 and stream.bytes > 0
    stream.finish()
    assert stream.samples == 60 * voice.hop and stream.bytes == 0


def test_the_look_ahead_is_exact(voice: Voice) -> None:
    """The last frame within the look-ahead changes the sample; the next frame does not."""
    ahead, sample, schedule = SMALL.look_ahead(1), 20, [0.3]
    last = (sample + ahead - 1) // voice.hop
    mel = a_mel(40)
    audio = voice.vocode(mel, schedule=schedule)
    for frame, reaches in ((last, True), (last + 1, False)):
        other = mel.copy()
        other[:, frame] = 1 - other[:, frame]
        changed = voice.vocode(other, schedule=schedule) != audio
        assert changed[: sample + 1].any() == reaches


@pytest.mark.parametrize("steps", range(1, 6))
@pytest.mark.parametrize("name", ["lmnt", "reflect", "prior", "hop 105, reflect"])
def test_few_steps_in_a_stream(voices: dict[str, Voice], name: str, steps: int) -> None:
    """The audio is that of the whole, and a sample is final as soon as the look-ahead of so many steps says so."""
    voice, config, options = voices[name], CONFIGS[name], {"seed": 3, "steps": steps, **EXTRA.get(name, {})}
    mel = a_mel(-(-config.look_ahead(steps) // config.hop) + 9, config=config)
    audio, finals = [], []
    with voice.open_stream(**options) as stream:
        for frame, piece in enumerate(cut(mel, 1), start=1):
            audio.append(stream.feed(piece))
            finals.append((stream.samples, frame * config.hop - config.look_ahead(steps) + 1))
        audio.append(stream.finish())
    assert np.concatenate(audio).tobytes() == voice.vocode(mel, **options).tobytes()
    assert all(samples <= max(final, 0) for samples, final in finals)
    assert all(samples > final - 12 for samples, final in finals)


# Cancelling and closing


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


# Memory


def leave_by_break(stream: Any) -> None:
    for _ in stream:
        break


def leave_by_exception(stream: Any) -> None:
    with pytest.raises(ZeroDivisionError):
        for _ in stream:
            raise ZeroDivisionError


def leave_open(stream: Any) -> None:
    next(stream)


@pytest.mark.parametrize("chunk", [None, 50])
@pytest.mark.parametrize("way", [leave_by_break, leave_by_exception, leave_open])
def test_memory_goes_with_the_last_reference(voice: Voice, way: Any, chunk: int | None) -> None:
    gc.disable()  # as in a server that allocates little in Python
    try:
        stream = voice.stream(a_mel(600), chunk=chunk)
        sweep = weakref.ref(stream._stream._window.pipeline)  # type: ignore[union-attr]
        way(stream)
        del stream
        assert sweep() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("kind", ["fails", "cancelled", "bad piece"])
def test_memory_goes_while_a_traceback_is_kept(voice: Voice, kind: str) -> None:
    cancel = threading.Event()

    def pieces() -> Iterator[Array]:
        yield a_mel(300)
        if kind == "fails":
            raise ZeroDivisionError
        if kind == "cancelled":
            cancel.set()
        yield a_mel(300)[: 19 if kind == "bad piece" else 20]

    stream = voice.stream(pieces(), cancel=cancel)
    sweeps = stream._stream._window.pipeline.sweeps  # type: ignore[union-attr]
    assert stream._stream.bytes > 0 and len(sweeps) == 1
    with pytest.raises((ZeroDivisionError, Cancelled, InputError)) as caught:
        list(stream)
    assert caught.tb is not None and stream._stream.bytes == 0 and not sweeps


def test_a_batch_that_is_left_early_frees_all_its_streams(voice: Voice) -> None:
    gc.disable()
    try:
        opened: list[Any] = []
        original = voice.open_stream

        class Watched(type(voice)):  # type: ignore[misc]
            def open_stream(self, **options: Any) -> Any:
                opened.append(original(**options))
                return opened[-1]

        watched = Watched.__new__(Watched)
        watched.__dict__.update(voice.__dict__)
        for _ in watched.stream_batch([a_mel(600), a_mel(600)]):
            break
        deadline = time.monotonic() + 30
        while any(stream.bytes for stream in opened) and time.monotonic() < deadline:
            time.sleep(0.01)  # a thread may be within a tile
        assert len(opened) == 2 and [stream.bytes for stream in opened] == [0, 0]
    finally:
        gc.enable()


@pytest.mark.parametrize(
    "config", [SMALL, replace(SMALL, n_mels=0, upsample_strides=(), mel_kind=None, classes=("a",))]
)
def test_a_voice_goes_with_its_last_reference(tmp_path: Path, config: Config) -> None:
    gc.disable()
    try:
        voice = load(tmp_path / "v.safetensors", config)
        if config.n_mels:
            voice.vocode(a_mel(3))
            list(voice.stream(a_mel(3)))
        else:
            voice.generate(samples=50, steps=6, label="a")
        network = weakref.ref(voice._loop._network)  # type: ignore[attr-defined]
        del voice
        assert network() is None
    finally:
        gc.enable()


# Refused arguments


@pytest.mark.parametrize(
    ("mels", "message"),
    [
        ([], "at least one frame, got none"),
        ([np.zeros((20, 0), np.float32)], "at least one frame, got none"),
        (np.zeros((20, 0), np.float32), "at least one frame, got none"),
        (a_mel(5).T, "piece 0: .*looks transposed"),
        (np.stack([a_mel(5)] * 2), "piece 0: .*got a batch"),
        ([a_mel(5), a_mel(5)[:19]], "piece 1: .*20 mel bands"),
        ([a_mel(5), [1.0]], "piece 1: mel"),
        ([[a_mel(5)]], "piece 0: .*got a batch"),
        ("mel.npy", "expected a mel or an iterable of mel pieces, got str"),
        (5, "expected a mel or an iterable of mel pieces, got int"),
    ],
)
def test_impossible_mels_are_refused(voice: Voice, mels: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        list(voice.stream(mels))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"chunk": 0}, "chunk: expected an integer from 1"),
        ({"chunk": 2.5}, "chunk"),
        ({"seed": -1}, "seed"),
        ({"seed": [1, 2]}, "seed"),
        ({"steps": 7}, "steps: expected 1 to 6 or 50"),
        ({"schedule": [0.9]}, "schedule"),
        ({"energy_min": 0.5}, "energy_min: only a PriorGrad network"),
        ({"cancel": True}, "cancel: expected a threading.Event, got bool"),
    ],
)
def test_impossible_options_are_refused_at_once(voice: Voice, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        voice.stream(a_mel(5), **options)


def test_other_refusals(voices: dict[str, Voice], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="energy_min: a PriorGrad network needs"):
        voices["prior"].stream(a_mel(5))
    with pytest.raises(InputError, match="energy_min: expected a number"):
        voices["prior"].stream(a_mel(5), energy_min=5.0)
    with pytest.raises(InputError, match="pads by reflection and needs more than 8 samples"):
        wide = replace(CONFIGS["reflect"], upsample_strides=(4,))
        list(load(tmp_path / "v.safetensors", wide).stream(a_mel(2)))
    plain = load(tmp_path / "p.safetensors", replace(SMALL, n_mels=0, upsample_strides=(), mel_kind=None))
    with pytest.raises(InputError, match="unconditional"):
        plain.stream(a_mel(5))
    for mels in ([], a_mel(5)):
        with pytest.raises(InputError, match="mels: expected a list with one mel or iterable per stream"):
            voices["lmnt"].stream_batch(mels)
    with pytest.raises(InputError, match="piece 0"):
        list(voices["lmnt"].stream_batch([a_mel(5), a_mel(5).T]))
