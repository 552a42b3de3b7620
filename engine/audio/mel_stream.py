"""Mel spectrograms of audio that is still arriving."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np

from engine.audio.pcm import Samples
from engine.audio.spectrogram import HOP, KINDS, N_FFT, N_MELS, mel
from engine.checks.arrays import FloatArray
from engine.errors import InputError

_CONTEXT = 2  # frames: the windows of the frames behind them do not reach the first sample


def stream_mel(
    blocks: Iterable[Samples],
    sample_rate: int,
    kind: str = "lmnt",
    *,
    n_mels: int = N_MELS,
    fmin: float | None = None,
    fmax: float | None = None,
) -> Iterator[FloatArray]:
    """Compute the frames of `mel` as soon as their samples are there, to feed `Voice.stream`.

    A frame is complete at most 640 samples after its beginning. Memory does not grow with the length of the audio.

    Args:
        blocks: consecutive blocks [n] of one recording in [-1, 1], float32 or float64, n >= 0; NumPy arrays.
        sample_rate: see `mel`, as for all following arguments.
        kind: a key of `KINDS`.
        n_mels: M.
        fmin: the lowest frequency in Hz, None for the kind's.
        fmax: the highest frequency in Hz, None for the kind's.

    Yields:
        float32 [M, t], t >= 1; together the frames of `mel` of the whole, up to the rounding of float32.

    Raises:
        InputError: an argument or a block has an impossible value, or the audio is shorter than the padding of `mel`.
    """

    def compute(audio: Samples) -> FloatArray:
        return mel(audio, sample_rate, kind, n_mels=n_mels, fmin=fmin, fmax=fmax)

    compute(np.zeros(N_FFT, np.float32))  # checks the arguments
    return _frames(blocks, N_FFT - KINDS[kind].pad, compute)


def _frames(blocks: Iterable[Samples], ahead: int, compute: Callable[[Samples], FloatArray]) -> Iterator[FloatArray]:
    """Yield the frames of `stream_mel`; `ahead` is the distance from the begin of a frame to the end of its window."""
    held: Samples = np.zeros(0, np.float32)  # the samples that are still needed,
    done = 0  # and how many of their frames are out
    for block in blocks:
        if not isinstance(block, np.ndarray) or block.ndim != 1 or block.dtype not in (np.float32, np.float64):
            shape = f"{block.dtype} {list(block.shape)}" if isinstance(block, np.ndarray) else type(block).__name__
            raise InputError(f"blocks: expected arrays [n] of float32 or float64, got {shape}")
        held = np.concatenate([held, block])
        complete = max(0, (len(held) - ahead) // HOP + 1)
        if complete > done:
            yield compute(held)[:, done:complete]
            gone = max(0, complete - _CONTEXT)
            held, done = held[gone * HOP :], complete - gone
    last = compute(held)[:, done:]
    if last.shape[1]:
        yield last
