"""Mel spectrograms of audio that is still arriving."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from engine.audio.pcm import Samples
from engine.audio.spectrogram import HOP, KINDS, N_FFT, N_MELS, hint_of, mel
from engine.checks.arrays import FloatArray, device_of, is_torch, on_device, to_numpy
from engine.errors import InputError

if TYPE_CHECKING:
    import torch

_CONTEXT = 2  # frames: the windows of the frames behind them do not reach the first sample


@overload
def stream_mel(
    blocks: Samples | Iterable[Samples],
    sample_rate: int,
    kind: str = "lmnt",
    *,
    n_mels: int = N_MELS,
    fmin: float | None = None,
    fmax: float | None = None,
) -> Iterator[FloatArray]: ...
@overload
def stream_mel(
    blocks: torch.Tensor | Iterable[torch.Tensor],
    sample_rate: int,
    kind: str = "lmnt",
    *,
    n_mels: int = N_MELS,
    fmin: float | None = None,
    fmax: float | None = None,
) -> Iterator[torch.Tensor]: ...
def stream_mel(
    blocks: Samples | torch.Tensor | Iterable[Samples] | Iterable[torch.Tensor],
    sample_rate: int,
    kind: str = "lmnt",
    *,
    n_mels: int = N_MELS,
    fmin: float | None = None,
    fmax: float | None = None,
) -> Iterator[FloatArray] | Iterator[torch.Tensor]:
    """Compute the frames of `mel` as soon as their samples are there, to feed `Voice.stream`.

    A frame is complete at most 640 samples after its beginning. Memory does not grow with the length of the audio.

    Args:
        blocks: consecutive blocks [n] of one recording in [-1, 1], float32 or float64, n >= 0; NumPy or torch. Or the
            whole recording [n].
        sample_rate: see `mel`, as for all following arguments.
        kind: a key of `KINDS`.
        n_mels: M.
        fmin: the lowest frequency in Hz, None for the kind's.
        fmax: the highest frequency in Hz, None for the kind's.

    Yields:
        float32 [M, t], t >= 1; together the frames of `mel` of the whole, up to the rounding of float32. NumPy or torch
        as the blocks.

    Raises:
        InputError: an argument or a block has an impossible value, or the audio is shorter than the padding of `mel`.
    """

    def compute(audio: Samples) -> FloatArray:
        return mel(audio, sample_rate, kind, n_mels=n_mels, fmin=fmin, fmax=fmax)

    compute(np.zeros(N_FFT, np.float32))  # checks the arguments
    if isinstance(blocks, np.ndarray) or is_torch(blocks):
        return _frames([blocks], N_FFT - KINDS[kind].pad, compute)
    if isinstance(blocks, (str, bytes, bytearray, memoryview)) or not isinstance(blocks, Iterable):
        raise InputError(f"blocks: expected audio or an iterable of its blocks, got {type(blocks).__name__}")
    return _frames(blocks, N_FFT - KINDS[kind].pad, compute)


def _frames(blocks: Iterable[Any], ahead: int, compute: Callable[[Samples], FloatArray]) -> Iterator[Any]:
    """Yield the frames of `stream_mel`; `ahead` is the distance from the begin of a frame to the end of its window."""
    held: Samples = np.zeros(0, np.float32)  # the samples that are still needed,
    done = 0  # and how many of their frames are out
    device = None
    for number, block in enumerate(blocks):
        samples = to_numpy(block, f"blocks[{number}]", ("float32", "float64"), hint_of(block))
        if samples.ndim != 1:
            raise InputError(f"blocks[{number}]: expected one channel of shape [n], got shape {samples.shape}")
        device = device_of(block)
        held = np.concatenate([held, samples])
        complete = max(0, (len(held) - ahead) // HOP + 1)
        if complete > done:
            yield on_device(compute(held)[:, done:complete], device)
            gone = max(0, complete - _CONTEXT)
            held, done = held[gone * HOP :], complete - gone
    last = compute(held)[:, done:]
    if last.shape[1]:
        yield on_device(last, device)
