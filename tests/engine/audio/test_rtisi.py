"""RTISI-LA in pieces against the algorithm over the whole signal, and its waveform beside Griffin-Lim's."""

from __future__ import annotations

import numpy as np
import pytest

import engine
from engine.audio.griffin_lim import griffin_lim
from engine.audio.mel_inversion import Triangles, magnitudes
from engine.audio.overlap import HOP, LEAST_ENERGY, Array, added, energy, windowed
from engine.audio.rtisi import AHEAD, GROUP, INERTIA, ROUNDS, PhaseStream, rtisi_la
from engine.audio.spectrogram import KINDS, WINDOW, bank_of
from engine.checks.arrays import FloatArray
from tests.support.tolerances import TOLERANCES, relative_error

RATE = 22050


def a_mel(frames: int, kind: str = "lmnt", seed: int = 0) -> FloatArray:
    """Return the mel of a voiced sound with noise, both of changing level."""
    random = np.random.default_rng((seed, frames))
    time = np.arange(256 * (frames + 3)) / RATE
    pitch = 2 * np.pi * np.cumsum(120 + 40 * np.sin(5 * time)) / RATE
    level = np.repeat(random.uniform(0.01, 0.3, frames + 3), 256)
    audio = level * (sum(np.cos(n * pitch) / n for n in range(1, 20)) / 3 + 0.1 * random.standard_normal(len(time)))
    return engine.mel(audio.clip(-1, 1).astype(np.float32), RATE, kind=kind)[:, :frames]


def over_the_whole(mel: FloatArray, kind: str, seed: int) -> Array:
    """Return the waveform, with every overlap-add over all frames from the first on; see the tolerance "rtisi"."""
    groups = [mel[:, first : first + GROUP] for first in range(0, mel.shape[1], GROUP)]
    size = np.concatenate([magnitudes(group, RATE, kind) for group in groups], axis=1).T
    count, random = len(size), np.random.default_rng(seed)
    frames, corrected = np.empty((0, 1024)), [np.zeros(513, complex)] * count

    def spectrum(place: int, frames: Array) -> Array:
        missing = max(0, place + 4 - len(frames) - 3)
        audio = np.pad(added(frames), ((0, missing), (0, 0))) if len(frames) else np.zeros((4, HOP))
        sums = np.pad(energy(len(frames)), ((0, missing), (0, 0))) if len(frames) else np.zeros((4, HOP))
        return np.fft.rfft((audio / np.maximum(sums, LEAST_ENERGY))[place : place + 4].ravel() * WINDOW)

    for first in range(count):
        last, known = min(first + AHEAD + 1, count), len(frames)
        for place in range(known, last):
            partial, drawn = spectrum(place, frames), np.exp(2j * np.pi * random.random((1, 513)))[0]
            phase = np.where(abs(partial) > 1e-6, partial / np.maximum(abs(partial), 1e-12), drawn)
            frames = np.concatenate([frames, windowed((phase * size[place])[None])])
        for number in range(ROUNDS):
            rebuilt = {place: spectrum(place, frames) for place in range(first, last)}
            for place, now in rebuilt.items():
                ahead = now - INERTIA * corrected[place] if number or place < known else now
                frames[place] = windowed((size[place] * ahead / (abs(ahead) + 1e-12))[None])[0]
                corrected[place] = now
    return (added(frames) / np.maximum(energy(count), LEAST_ENERGY)).ravel()[KINDS[kind].pad :][: 256 * count]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("frames", [1, 2, 5, GROUP, GROUP + 1])
def test_the_algorithm(frames: int, kind: str) -> None:
    mel = a_mel(frames, kind)
    expected = over_the_whole(mel, kind, 3).clip(-1, 1)
    assert relative_error(rtisi_la(mel, RATE, kind=kind, seed=3), expected) < TOLERANCES["rtisi"]


@pytest.mark.parametrize("kind", ["lmnt", "hifigan"])  # which extend the audio by different lengths
@pytest.mark.parametrize("frames", [1, 2, 3, 4, 8, 9, 37])
def test_pieces_do_not_change_the_bytes(kind: str, frames: int) -> None:
    mel, random = a_mel(frames, kind), np.random.default_rng(frames)
    expected = rtisi_la(mel, RATE, kind=kind, seed=1)
    assert expected.dtype == np.float32 and len(expected) == 256 * frames
    for most in (1, 5, 40):
        stream, parts, taken = PhaseStream(80, RATE, kind=kind, seed=1), [], 0
        while taken < frames:
            piece = mel[:, taken : taken + int(random.integers(0, most + 1))]
            parts.append(stream.feed(piece))
            taken += piece.shape[1]
            assert 256 * taken - sum(map(len, parts)) < 256 * (GROUP + AHEAD + 2)
            assert stream.bytes < 1 << 20
        parts.append(stream.finish())
        assert np.concatenate(parts).tobytes() == expected.tobytes()


def test_nothing_is_returned_twice() -> None:
    stream = PhaseStream(80, RATE)
    assert len(stream.feed(a_mel(0))) == len(stream.finish()) == 0
    stream = PhaseStream(80, RATE)
    assert len(stream.feed(a_mel(20))) + len(stream.finish()) == 20 * 256
    assert len(stream.finish()) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_the_mel_is_met_like_by_griffin_lim(kind: str) -> None:
    mel = a_mel(60, kind)

    def error(audio: FloatArray) -> float:
        return float(np.abs(engine.mel(audio, RATE, kind=kind)[:, 2:58] - mel[:, 2:58]).mean())

    assert error(rtisi_la(mel, RATE, kind=kind)) < 1.4 * error(griffin_lim(mel, RATE, kind=kind))  # 1.17 was seen


def test_the_seed_draws_phases_that_nothing_determines() -> None:
    mel = a_mel(9)
    first, second = (rtisi_la(mel, RATE, seed=seed) for seed in (1, 2))
    assert relative_error(first, second) > 0.1


@pytest.mark.parametrize("options", [("lmnt", 22050, 80), ("tacotron", 22050, 80), ("hifigan", 24000, 100)])
def test_bands_of_few_frames(options: tuple[str, int, int]) -> None:
    kind, rate, bands = options
    bank = bank_of(kind, rate, bands, None, 3000.0)
    bank[3] = 0.0  # a band that is narrower than a bin
    for frames in (1, GROUP, GROUP + 1):
        bins = np.random.default_rng(frames).random((513, frames))
        for few in (False, True):
            np.testing.assert_allclose(Triangles(bank, few=few).collect(bins), bank @ bins, rtol=1e-12, atol=1e-15)
