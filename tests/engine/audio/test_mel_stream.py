"""The frames of audio that arrives in blocks are those of the whole."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest

import engine
from engine import InputError
from engine.audio import stream_mel
from engine.audio.spectrogram import KINDS
from tests.support.tolerances import TOLERANCES

RATE = 22050


def recording(count: int) -> npt.NDArray[np.float32]:
    rng = np.random.default_rng(count)
    return (0.3 * np.sin(np.arange(count) * 0.05) + 0.1 * rng.standard_normal(count)).astype(np.float32)


def cut(audio: npt.NDArray[np.float32], longest: int) -> Iterator[npt.NDArray[np.float32]]:
    rng, begin = np.random.default_rng(longest), 0
    while begin < len(audio):
        end = begin + int(rng.integers(0, longest + 1))
        yield audio[begin:end]
        begin = end


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [513, 600, 1023, 1024, 5000, 5 * 256, 40000])
@pytest.mark.parametrize("longest", [60, 700, 100000])
def test_pieces_are_the_whole(kind: str, count: int, longest: int) -> None:
    audio = recording(count)
    pieces = list(stream_mel(cut(audio, longest), RATE, kind))
    whole = engine.mel(audio, RATE, kind)
    assert all(piece.shape[1] for piece in pieces) and sum(piece.shape[1] for piece in pieces) == whole.shape[1]
    np.testing.assert_allclose(np.concatenate(pieces, 1), whole, rtol=0, atol=TOLERANCES["stream_mel"])


def test_frames_come_as_soon_as_they_are_complete() -> None:
    for kind, ahead in (("lmnt", 512), ("hifigan", 640)):
        heard, frames = 0, 0

        def blocks() -> Iterator[npt.NDArray[np.float32]]:
            nonlocal heard
            for block in np.split(recording(100 * 100), 100):
                heard += len(block)
                yield block

        for piece in stream_mel(blocks(), RATE, kind):
            frames += piece.shape[1]
            if heard < 10000:
                assert frames == (heard - ahead) // 256 + 1


def test_other_bands() -> None:
    audio, options = recording(4000), {"n_mels": 100, "fmin": 30.0, "fmax": 10000.0}
    pieces = list(stream_mel(cut(audio, 500), 24000, "hifigan", **options))  # type: ignore[arg-type]
    whole = engine.mel(audio, 24000, "hifigan", **options)  # type: ignore[arg-type]
    np.testing.assert_allclose(np.concatenate(pieces, 1), whole, rtol=0, atol=TOLERANCES["stream_mel"])


def test_bad_arguments_are_refused_at_once() -> None:
    with pytest.raises(InputError, match="kind: expected one of"):
        stream_mel([], RATE, "other")
    with pytest.raises(InputError, match="n_mels: "):
        stream_mel([], RATE, n_mels=0)
    for block, message in (
        (np.zeros((1, 9), np.float32), r"blocks: expected arrays \[n\] of float32 or float64, got float32 \[1, 9\]"),
        (np.zeros(9, np.int16), r"got int16 \[9\]"),
        ([0.0], "got list"),
    ):
        with pytest.raises(InputError, match=message):
            list(stream_mel([block], RATE))  # type: ignore[list-item]
    with pytest.raises(InputError, match="expected more than 512 samples"):
        list(stream_mel([recording(300)], RATE))
    with pytest.raises(InputError, match="NaN"):
        list(stream_mel([np.full(2000, np.nan, np.float32)], RATE))
