"""Streams: the bytes of the whole, as soon as they are final, until somebody stops them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
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

SMALL = Config(residual_channels=16, residual_layers=5, dilation_cycle=4, n_mels=20, upsample_strides=(4, 4))
CONFIGS = {
    "lmnt": SMALL,
    "reflect": replace(SMALL, padding="reflect", mel_kind=None),
    "reflect, hop 2": replace(SMALL, padding="reflect", mel_kind=None, upsample_strides=(2,)),
    "an upsampler for each layer": replace(SMALL, shared_upsampler=False, upsample_strides=(6, 2, 4)),
    "prior": replace(SMALL, prior=True, mel_kind="hifigan"),
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


# The same bytes


@pytest.mark.parametrize("frames", [5, 6, 40, 301])
@pytest.mark.parametrize("name", CONFIGS)
def test_a_stream_is_the_whole(voices: dict[str, Voice], name: str, frames: int) -> None:
    voice, extra = voices[name], {"seed": 7, **EXTRA.get(name, {})}
    mel = a_mel(frames, config=CONFIGS[name])
    expected = voice.vocode(mel, **extra).tobytes()
    for sizes, chunk in (((frames,), None), ((1,), None), ((3, 0, 100), 100), ((64, 65), 1), ((1024,), 10**6)):
        chunks = list(voice.stream(cut(mel, *sizes), chunk=chunk, **extra))
        assert b"".join(one.tobytes() for one in chunks) == expected, f"pieces of {sizes}"
        if chunk is not None:
            assert {len(one) for one in chunks[:-1]} <= {chunk} and 0 < len(chunks[-1]) <= chunk
        assert all(isinstance(one, np.ndarray) and one.dtype == np.float32 and len(one) for one in chunks)
    assert b"".join(one.tobytes() for one in voice.stream(mel, **extra)) == expected


@pytest.mark.parametrize("name", ["lmnt", "8 steps", "an upsampler for each layer"])
def test_little_memory_changes_no_byte(voices: dict[str, Voice], monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    voice, extra = voices[name], EXTRA.get(name, {})
    mel = a_mel(150)
    expected = voice.vocode(mel, **extra).tobytes()
    with voice.open_stream(**extra) as roomy:
        monkeypatch.setattr(pipeline, "STEPS_PER_SWEEP", 1)
        with voice.open_stream(**extra) as lean:
            assert len(lean._window.pipeline.sweeps) > len(roomy._window.pipeline.sweeps)  # type: ignore[union-attr]
            made = [lean.feed(piece) for piece in cut(mel, 7)] + [lean.finish()]
    assert b"".join(one.tobytes() for one in made) == expected


@pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt])
def test_a_stream_does_not_go_on_from_half_a_tile(
    voice: Voice, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    def fails(*_: object) -> bool:
        raise error

    with voice.open_stream() as stream:
        with monkeypatch.context() as patch, pytest.raises(error):
            patch.setattr(pipeline.StepPipeline, "advance", fails)
            stream.feed(a_mel(200))
        assert stream.bytes == 0
        with pytest.raises(InputError, match="stream: it is finished or closed"):
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
        assert all(isinstance(one, torch.Tensor) for one in chunks)
        assert torch.cat(chunks).numpy().tobytes() == expected.tobytes()


def test_streams_side_by_side(voice: Voice) -> None:
    """Fed by hand in turns, and in threads of their own, each at its own position."""
    mels = [a_mel(frames, seed) for seed, frames in enumerate((40, 1, 133, 40))]
    expected = [voice.vocode(mel, seed=seed).tobytes() for seed, mel in enumerate(mels)]
    streams = [voice.open_stream(seed=seed, streams=4) for seed in range(4)]
    made: list[list[Array]] = [[] for _ in mels]
    for begin in range(0, 133, 7):
        for stream, mel, audio in zip(streams, mels, made, strict=True):
            audio.append(stream.feed(mel[:, begin : begin + 7]))
    for stream, audio in zip(streams, made, strict=True):
        audio.append(stream.finish())
    assert [np.concatenate(audio).tobytes() for audio in made] == expected

    made = [[] for _ in mels]
    for number, chunk in voice.stream_batch([cut(mel, 9) for mel in mels], seed=[0, 1, 2, 3], chunk=50):
        made[number].append(chunk)
    assert [np.concatenate(audio).tobytes() for audio in made] == expected


def test_a_batch_that_is_left_early_does_not_wait_for_its_sources(voice: Voice) -> None:
    go_on = threading.Event()

    def slowly() -> Iterator[Array]:
        go_on.wait(60)
        yield a_mel(5)

    made = voice.stream_batch([a_mel(600), slowly()])
    assert next(made)[0] == 0
    made.close()  # type: ignore[attr-defined]
    assert not go_on.is_set()
    go_on.set()


def test_a_piece_may_be_all_silence(voices: dict[str, Voice], recwarn: pytest.WarningsRecorder) -> None:
    """Of a whole logarithmic mel, values in [0, 1] alone are worth a warning; of a piece they are not."""
    mel = np.full((20, 3), 0.5, np.float32)
    list(voices["prior"].stream(mel, energy_min=0.5))
    assert not recwarn.list
    voices["prior"].vocode(mel, energy_min=0.5)
    assert len(recwarn.list) == 1


# As soon as they are final


def test_base_looks_ahead_73_frames() -> None:
    assert BASE.look_ahead(6) == 6 * 3069 + 136 + 1
    assert -(-BASE.look_ahead(6) // BASE.hop) == 73 and round(BASE.look_ahead(6) / BASE.sample_rate, 2) == 0.84
    assert round(73 * BASE.hop / BASE.sample_rate, 3) == 0.848


@pytest.mark.parametrize("name", CONFIGS)
def test_audio_comes_as_soon_as_it_is_final(voices: dict[str, Voice], name: str) -> None:
    """Within a register tile, 12 samples, of what the mel determines."""
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


def test_the_look_ahead_is_what_the_network_needs(voice: Voice) -> None:
    """The last frame within it reaches the sample, through one step as it happens in float32; the next does not."""
    ahead, sample, schedule = SMALL.look_ahead(1), 20, [0.3]
    last = (sample + ahead - 1) // voice.hop
    mel = a_mel(40)
    audio = voice.vocode(mel, schedule=schedule)
    for frame, reaches in ((last, True), (last + 1, False)):
        other = mel.copy()
        other[:, frame] = 1 - other[:, frame]
        changed = voice.vocode(other, schedule=schedule) != audio
        assert changed[: sample + 1].any() == reaches


# Stopping


def test_an_event_stops_it(voice: Voice) -> None:
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


def test_close_stops_it(voice: Voice) -> None:
    with voice.stream(a_mel(600)) as chunks:
        next(chunks)
    assert list(chunks) == []
    chunks.close()
    stream = voice.open_stream()
    stream.close()
    for call in (lambda: stream.feed(a_mel(5)), stream.finish):
        with pytest.raises(InputError, match="it is finished or closed"):
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


def test_a_bad_piece_leaves_a_stream_that_is_fed_by_hand_as_it_was(voice: Voice) -> None:
    mel = a_mel(30)
    stream = voice.open_stream(seed=4)
    made = [stream.feed(mel[:, :11])]
    for bad, message in (
        (a_mel(3).T, "looks transposed"),
        (a_mel(3) * np.nan, "finite"),
        (a_mel(3) + 5, "in \\[0, 1\\]"),
    ):
        with pytest.raises(InputError, match=message):
            stream.feed(bad)
    made += [stream.feed(mel[:, 11:]), stream.finish()]
    assert np.concatenate(made).tobytes() == voice.vocode(mel, seed=4).tobytes()
    with pytest.raises(InputError, match="finished"):
        stream.feed(mel)


# What is refused


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
        ({"steps": 7}, "steps: expected one of"),
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
