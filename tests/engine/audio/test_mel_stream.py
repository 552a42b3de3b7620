"""The frames of audio that arrives in blocks are those of the whole."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest
import torch

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


def test_tensors_give_tensors() -> None:
    audio = recording(5000)
    expected = list(stream_mel(np.split(audio, 5), RATE))
    pieces = list(stream_mel(torch.from_numpy(audio).requires_grad_().split(1000), RATE))
    assert len(pieces) == len(expected) > 1
    for piece, other in zip(pieces, expected, strict=True):
        assert isinstance(piece, torch.Tensor) and np.array_equal(piece.numpy(), other)


def test_a_whole_recording_is_one_block() -> None:
    audio = recording(5000)
    for whole in (audio, torch.from_numpy(audio)):
        pieces = list(stream_mel(whole, RATE))
        np.testing.assert_array_equal(np.concatenate(pieces, 1), np.concatenate(list(stream_mel([audio], RATE)), 1))
        assert all(type(piece) is type(whole) for piece in pieces)


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
        (np.zeros((1, 9), np.float32), r"blocks\[1\]: expected one channel of shape \[n\], got shape \(1, 9\)"),
        (torch.zeros(1, 9), r"blocks\[1\]: expected one channel of shape \[n\], got shape \(1, 9\)"),
        (np.zeros(9, np.int16), r"blocks\[1\]: expected float32 or float64, got int16; divide 16-bit integers by "),
        (torch.zeros(9, dtype=torch.int16), "got int16; divide 16-bit integers by 32768"),
        (np.zeros(9, ">f4"), "got >f4; convert it to float32"),
        (np.zeros(9, bool), "got bool$"),
        (torch.zeros(9, dtype=torch.bfloat16), r"got bfloat16; convert it to float32$"),
        ([0.0], r"blocks\[1\]: expected a numpy array or a torch tensor, got list"),
        (None, r"blocks\[1\]: expected a numpy array or a torch tensor, got NoneType"),
    ):
        with pytest.raises(InputError, match=message):
            list(stream_mel([recording(9), block], RATE))  # type: ignore[list-item]
    for blocks in (None, 5, "a.wav", b"12"):
        with pytest.raises(InputError, match="blocks: expected audio or an iterable of its blocks, got "):
            stream_mel(blocks, RATE)  # type: ignore[call-overload]
    with pytest.raises(InputError, match="expected more than 512 samples"):
        list(stream_mel([recording(300)], RATE))
    with pytest.raises(InputError, match="NaN"):
        list(stream_mel([np.full(2000, np.nan, np.float32)], RATE))
