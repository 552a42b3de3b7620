"""Streams give the bytes of vocode as soon as they are final."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from engine import Cancelled, Voice
from engine.config import BASE
from engine.sampling.cpu import pipeline
from tests.support.streams import CONFIGS, EXTRA, SMALL, Array, a_mel, cut, load

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
