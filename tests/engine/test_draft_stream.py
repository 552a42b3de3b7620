"""Streams that refine a draft have the bytes of whole calls, at half the distance of six steps from noise."""

from __future__ import annotations

from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import engine
from engine import InputError, Voice
from engine.audio.rtisi import AHEAD, GROUP, PhaseStream, rtisi_la
from engine.checkpoint.load import Checkpoint, save_checkpoint
from engine.config import Config
from engine.errors import Cancelled
from engine.sampling.cpu.pipeline import UNIT
from tests.support.networks import random_network

CONFIG = Config(residual_channels=16, residual_layers=5, dilation_cycle=4)
ONLINE: dict[str, Any] = {"draft": "rtisi-la"}


def load(folder: Path, config: Config, precision: str = "fp32", threads: int = 2) -> Voice:
    save_checkpoint(folder / "draft.safetensors", Checkpoint(config, random_network(config, 0)))
    return engine.load(folder / "draft.safetensors", device="cpu", precision=precision, threads=threads)


@pytest.fixture(scope="module")
def voice(tmp_path_factory: pytest.TempPathFactory) -> Voice:
    return load(tmp_path_factory.mktemp("draft"), CONFIG)


def a_mel(frames: int, seed: int = 0) -> Any:
    return np.random.default_rng((seed, frames)).random((80, frames), np.float32)


def test_the_draft_is_that_of_rtisi_la(voice: Voice) -> None:
    mel = a_mel(21)
    for options in ({}, {"steps": 1}, {"match_mel": 1.0}):
        expected = voice.vocode(mel, draft=rtisi_la(mel, 22050, seed=5), seed=5, **options)
        assert voice.vocode(mel, seed=5, **ONLINE, **options).tobytes() == expected.tobytes()


@pytest.mark.parametrize("options", [{}, {"steps": 1}, {"steps": "fast", "match_mel": 1}, {"schedule": [0.01, 0.2]}])
@pytest.mark.parametrize("frames", [1, 7, 40, 130])
def test_streams_have_the_bytes_of_vocode(voice: Voice, frames: int, options: dict[str, Any]) -> None:
    mel, options = a_mel(frames), {**ONLINE, **options}
    expected = voice.vocode(mel, seed=3, **options).tobytes()
    for size in (1, 9, frames):
        parts = [mel[:, first : first + size] for first in range(0, frames, size)]
        assert np.concatenate(list(voice.stream(parts, seed=3, **options))).tobytes() == expected
    assert np.concatenate(list(voice.stream(mel, seed=3, chunk=100, **options))).tobytes() == expected
    by_stream: dict[int, list[Any]] = {0: [], 1: []}
    for number, chunk in voice.stream_batch([parts, mel[:, :1]], seed=[3, 4], **options):
        by_stream[number].append(chunk)
    assert np.concatenate(by_stream[0]).tobytes() == expected
    assert np.concatenate(by_stream[1]).tobytes() == voice.vocode(mel[:, :1], seed=4, **options).tobytes()


@pytest.mark.parametrize("precision", ["int8", "bf16", "fp32"])
def test_every_precision_of_the_bundled_voice(precision: str) -> None:
    try:
        voice = engine.load(device="cpu", precision=precision, threads=1)
    except engine.UnavailableError as error:
        pytest.skip(str(error))
    mel = np.load(engine.checkpoint.bundled.BUNDLED.with_name("demo_mel.npy"))[:, 100:160]
    expected = voice.vocode(mel, seed=3, **ONLINE).tobytes()
    with voice.open_stream(seed=3, **ONLINE) as stream:
        audio, distances = [], []
        for frame in range(60):
            audio.append(stream.feed(mel[:, frame : frame + 1]))
            distances.append(256 * stream.frames - stream.samples)
        audio.append(stream.finish())
    assert np.concatenate(audio).tobytes() == expected
    look_ahead = voice.config.look_ahead(2)
    # Tiles are multiples of UNIT samples, with and without a draft.
    assert look_ahead < max(distances) < look_ahead + UNIT + 256 * (GROUP + AHEAD + 1) < voice.config.look_ahead(6)


def test_working_memory_does_not_grow(voice: Voice) -> None:
    with voice.open_stream(**ONLINE) as stream:
        stream.feed(a_mel(100))
        before = stream.bytes
        for seed in range(10):
            stream.feed(a_mel(100, seed))
        assert stream.bytes <= before + (1 << 18)


@pytest.mark.parametrize("place", ["feed", "finish"])
def test_a_draft_that_is_interrupted_ends_the_stream(voice: Voice, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    advance, calls = PhaseStream._advance, count()

    def interrupted(phases: PhaseStream) -> Any:
        if next(calls) == 2:
            raise KeyboardInterrupt
        return advance(phases)

    with voice.open_stream(**ONLINE) as stream:
        stream.feed(a_mel(8))
        monkeypatch.setattr(PhaseStream, "_advance", interrupted)
        with pytest.raises(KeyboardInterrupt):
            stream.feed(a_mel(16)) if place == "feed" else stream.finish()
        assert stream.bytes == 0
        for resume in (partial(stream.feed, a_mel(16)), stream.finish):
            with pytest.raises(Cancelled, match="the stream was closed, or failed"):
                resume()


def test_a_network_that_reflects_its_ends(tmp_path: Path) -> None:
    config = Config(residual_channels=16, residual_layers=5, dilation_cycle=4, padding="reflect")
    voice, mel = load(tmp_path, config), a_mel(70)
    expected = voice.vocode(mel, seed=3, **ONLINE).tobytes()
    assert np.concatenate(list(voice.stream([mel[:, :33], mel[:, 33:]], seed=3, **ONLINE))).tobytes() == expected


@pytest.mark.parametrize(
    ("draft", "message"),
    [
        ("griffin-lim", "draft: expected 'rtisi-la' for a stream, got 'griffin-lim', which needs the whole mel"),
        ("vocos", "draft: expected 'rtisi-la' for a stream, got 'vocos'$"),
        (np.zeros(256, np.float32), "draft: expected 'rtisi-la' for a stream, got ndarray$"),
    ],
)
def test_other_drafts_are_refused(voice: Voice, draft: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        voice.open_stream(draft=draft)
    with pytest.raises(InputError, match=message):
        voice.stream(a_mel(3), draft=draft)


def test_networks_whose_mels_or_noise_forbid_it(tmp_path: Path) -> None:
    prior = load(tmp_path, Config(residual_channels=16, residual_layers=5, n_mels=79, prior=True, family="priorgrad"))
    with pytest.raises(InputError, match="draft: PriorGrad's noise is not white"):
        prior.open_stream(energy_min=0.1, **ONLINE)
    other = load(tmp_path, Config(residual_channels=16, residual_layers=5, upsample_strides=(8, 16)))
    for draft in ("rtisi-la", "griffin-lim"):
        with pytest.raises(InputError, match=r"draft: 'rtisi-la' cannot invert this mel .*; leave it out"):
            other.open_stream(draft=draft)


def test_whole_calls_report_their_progress_and_stop(voice: Voice) -> None:
    seen: list[float] = []
    voice.vocode(a_mel(200), progress=seen.append, **ONLINE)
    assert seen == sorted(seen) and seen[0] == 0.0 and seen[-1] == 1.0
    assert sum(fraction < 1 / 3 for fraction in seen) == 4  # pieces of 64 frames

    class Event:
        asked = 0

        def is_set(self) -> bool:
            self.asked += 1
            return self.asked > 2

    event = Event()
    with pytest.raises(Cancelled):
        voice.vocode(a_mel(1000), cancel=event, **ONLINE)
    assert event.asked == 3
