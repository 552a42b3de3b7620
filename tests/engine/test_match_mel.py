"""`match_mel`: audio scaled towards its mel, as a function and as an argument of `vocode`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import engine
from engine.audio.mel_match import DELAY, MatchedStream, MelMatch
from engine.audio.mel_match import matched as matched_by
from engine.audio.overlap import BLOCK
from engine.audio.spectrogram import KINDS
from engine.checkpoint.load import Checkpoint, save_checkpoint
from engine.checks.arrays import FloatArray
from engine.config import Config
from engine.errors import InputError
from tests.support.networks import random_network
from tests.support.spectra import spectra_before_a_stop
from tests.support.tolerances import TOLERANCES, relative_error

RATE = 22050


def matched(audio: FloatArray, mel: FloatArray, rate: int, *, threads: int = 1, **options: Any) -> FloatArray:
    return matched_by(audio, mel, MelMatch(len(mel), rate, **options), threads=threads)


def in_one_piece(audio: FloatArray, mel: FloatArray, match: MelMatch) -> FloatArray:
    padded = match.padded(audio.astype(np.float64), mel.shape[1])
    return match.run(padded, match.bands(mel))[match.pad :][: len(audio)]


def noise(frames: int, level: float = 0.1, seed: int = 0) -> FloatArray:
    return (level * np.random.default_rng(seed).standard_normal(256 * frames)).clip(-1, 1).astype(np.float32)


def mel_error(audio: FloatArray, mel: FloatArray, kind: str = "lmnt") -> float:
    return float(np.abs(engine.mel(audio, RATE, kind=kind)[:, : mel.shape[1]] - mel).mean())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("frames", [3, 20, BLOCK, BLOCK + 1])
def test_audio_with_its_own_mel_stays(kind: str, frames: int) -> None:
    audio = noise(frames)
    mel = engine.mel(audio, RATE, kind=kind)[:, :frames]
    for gain in (1.0, math.inf):
        assert relative_error(matched(audio, mel, RATE, kind=kind, largest_gain=gain), audio) < TOLERANCES["own_mel"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_mel_is_approached(kind: str) -> None:
    level = np.repeat(np.random.default_rng(1).uniform(0.02, 0.3, 40), 256)
    mel = engine.mel((noise(40, 1.0, seed=2) * level).astype(np.float32), RATE, kind=kind)[:, :40]
    audio = noise(40)
    errors = [mel_error(audio, mel, kind)]
    errors += [mel_error(matched(audio, mel, RATE, kind=kind, largest_gain=gain), mel, kind) for gain in (1, math.inf)]
    assert errors[2] < 0.5 * errors[0] and errors[2] < errors[1] < errors[0]


def test_a_gain_of_one_only_attenuates() -> None:
    loud, soft = noise(30, 0.2), noise(30, 0.02, seed=1)
    mel = engine.mel(loud, RATE)[:, :30]
    energy = (matched(soft, mel, RATE).astype(float) ** 2).sum() / (soft.astype(float) ** 2).sum()
    assert 0.9 < energy < 1.01
    assert (matched(soft, mel, RATE, largest_gain=math.inf).astype(float) ** 2).sum() > 30 * (soft**2).sum()
    assert (matched(loud, engine.mel(soft, RATE)[:, :30], RATE) ** 2).sum() < 0.03 * (loud**2).sum()


def test_bins_of_no_band_stay() -> None:
    time = np.arange(256 * 40) / RATE
    high = (0.1 * np.sin(2 * np.pi * 9500 * time)).astype(np.float32)
    silent = engine.mel(np.zeros(256 * 40, np.float32), RATE, kind="tacotron")[:, :40]  # up to 8 kHz
    audio = matched(high + noise(40, 0.01), silent, RATE, kind="tacotron")
    assert np.abs(audio - high)[1024:-1024].max() < 0.03 and np.abs(audio).max() > 0.09


def test_threads_do_not_change_the_bytes() -> None:
    audio, mel = noise(3 * BLOCK + 5), engine.mel(noise(3 * BLOCK + 5, seed=1), RATE)[:, : 3 * BLOCK + 5]
    expected = matched(audio, mel, RATE).tobytes()
    assert all(matched(audio, mel, RATE, threads=threads).tobytes() == expected for threads in (2, 7))


def load(folder: Path, config: Config) -> engine.Voice:
    save_checkpoint(folder / "voice.safetensors", Checkpoint(config, random_network(config, 0)))
    return engine.load(folder / "voice.safetensors", device="cpu", precision="fp32", threads=2)


@pytest.fixture(scope="module")
def voice(tmp_path_factory: pytest.TempPathFactory) -> engine.Voice:
    return load(tmp_path_factory.mktemp("voice"), Config(residual_channels=8, residual_layers=3, dilation_cycle=3))


def a_mel(frames: int, seed: int = 0) -> FloatArray:
    return np.random.default_rng(seed).uniform(0.2, 0.7, (80, frames)).astype(np.float32)


def test_vocode_matches_every_item(voice: engine.Voice) -> None:
    mels = [a_mel(9), a_mel(5, seed=1)]
    plain, scaled = voice.vocode(mels, seed=3), voice.vocode(mels, seed=3, match_mel=2)
    for audio, mel, result in zip(plain, mels, scaled, strict=True):
        assert result.tobytes() == matched(audio, mel, RATE, largest_gain=2).tobytes() != audio.tobytes()
    padded = np.zeros((2, 80, 9), np.float32)
    padded[0], padded[1, :, :5] = mels
    batch = voice.vocode(padded, lengths=[9, 5], seed=3, match_mel=2)
    assert batch[0].tobytes() == scaled[0].tobytes() and batch[1, : 5 * 256].tobytes() == scaled[1].tobytes()
    assert not batch[1, 5 * 256 :].any()


def test_it_works_beside_a_draft_and_with_tensors(voice: engine.Voice) -> None:
    torch = pytest.importorskip("torch")
    mel = a_mel(6)
    draft = voice.vocode(mel, draft="griffin-lim", seed=1)
    expected = matched(draft, mel, RATE)
    result = voice.vocode(torch.from_numpy(mel), draft="griffin-lim", seed=1, match_mel=1)
    assert isinstance(result, torch.Tensor) and result.numpy().tobytes() == expected.tobytes()
    assert engine.vocode(mel[:, :2], seed=1, steps=1, match_mel=1).shape == (512,)


@pytest.mark.parametrize("kind", ["lmnt", "hifigan"])  # which extend the audio by different lengths
@pytest.mark.parametrize("frames", [1, 2, 3, 4, 7, 12, BLOCK + 9])
@pytest.mark.parametrize("is_rounded", [True, False])  # float32 hides most differences of the sums in float64
def test_pieces_have_the_bytes_of_the_whole(
    kind: str, frames: int, is_rounded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not is_rounded:
        monkeypatch.setattr("engine.audio.mel_match.single", np.array)
    random = np.random.default_rng(frames)
    audio, mel = noise(frames), engine.mel(noise(frames + 3, 0.3, seed=1), RATE, kind=kind)[:, :frames]
    for gain in (1.0, math.inf):
        match = MelMatch(80, RATE, kind=kind, largest_gain=gain)
        stream, parts, taken = MatchedStream(match), [], 0
        for begin in range(0, frames, 3):
            stream.add(mel[:, begin : begin + 3])
            known = min(256 * frames, 256 * (begin + 3))
            while taken < known - 700 or (taken < known and known == 256 * frames):
                piece = audio[taken : min(known, taken + int(random.integers(1, 900)))]
                parts.append(stream.feed(piece))
                taken += len(piece)
                assert taken - sum(map(len, parts)) <= DELAY
        parts.append(stream.finish())
        assert np.concatenate(parts).tobytes() == in_one_piece(audio, mel, match).tobytes()
        assert stream.bytes < 40 * 1024 * 8


@pytest.mark.parametrize("frames", [1, 7, 8, 9, 17, 30])
def test_long_audio_is_matched_in_pieces(frames: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.audio.mel_match.PIECE", 8)
    audio, mel = noise(frames), engine.mel(noise(frames + 3, 0.3, seed=1), RATE)[:, :frames]
    match = MelMatch(80, RATE, largest_gain=2.0)
    assert matched_by(audio, mel, match).tobytes() == in_one_piece(audio, mel, match).tobytes()


@pytest.mark.parametrize("pieces", [1, 4])
def test_streams_have_the_bytes_of_vocode(voice: engine.Voice, pieces: int) -> None:
    mel = a_mel(33)
    expected = voice.vocode(mel, seed=3, match_mel=1).tobytes()
    parts = np.array_split(mel, pieces, axis=1)
    assert np.concatenate(list(voice.stream(parts, seed=3, match_mel=1))).tobytes() == expected
    assert np.concatenate(list(voice.stream(mel, seed=3, match_mel=1, chunk=100))).tobytes() == expected
    by_stream: dict[int, list[FloatArray]] = {0: [], 1: []}
    for number, chunk in voice.stream_batch([parts, mel[:, :5]], seed=[3, 4], match_mel=1):
        by_stream[number].append(chunk)
    assert np.concatenate(by_stream[0]).tobytes() == expected
    assert np.concatenate(by_stream[1]).tobytes() == voice.vocode(mel[:, :5], seed=4, match_mel=1).tobytes()
    with voice.open_stream(seed=3, match_mel=1) as stream:
        assert stream.bytes > 0
        audio = [stream.feed(part) for part in parts] + [stream.finish()]
        assert np.concatenate(audio).tobytes() == expected and stream.samples == len(expected) // 4
    with pytest.raises(InputError, match="match_mel: expected the largest gain"):
        voice.open_stream(match_mel=0.5)


@pytest.mark.parametrize(
    "gain", [0.99, 0, -1, math.nan, True, "1", None.__class__, [1.0], pytest.param(10**400, id="huge")]
)
def test_an_impossible_gain_is_refused(voice: engine.Voice, gain: Any) -> None:
    with pytest.raises(InputError, match="match_mel: expected the largest gain of a band"):
        voice.vocode(a_mel(3), match_mel=gain)


@pytest.mark.parametrize("options", [{"mel_kind": None}, {"upsample_strides": (15, 20)}])
def test_unknown_kinds_and_hops_are_refused(options: dict[str, Any], tmp_path: Path) -> None:
    config = Config(residual_channels=8, residual_layers=3, dilation_cycle=3, **options)
    with pytest.raises(InputError, match="match_mel: this network's mels cannot be computed from audio"):
        load(tmp_path, config).vocode(a_mel(3), match_mel=1)


def test_it_stops_between_rounds(voice: engine.Voice, monkeypatch: pytest.MonkeyPatch) -> None:
    assert spectra_before_a_stop(voice, a_mel(4), monkeypatch, match_mel=1) == 1
