"""Griffin-Lim: a waveform from a mel spectrogram without a network, a baseline of every table of quality."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from engine.audio.library import empty, library, packed, single
from engine.audio.mel_inversion import SMALLEST, magnitudes
from engine.audio.overlap import Array, Run, Spectrum, block_size, blocks_of, in_rounds, joined, shared_by, windowed
from engine.audio.spectrogram import HOP, KINDS, N_FFT
from engine.checks.arrays import FloatArray, device_of, on_device

if TYPE_CHECKING:
    import torch

ROUNDS = 32  # librosa's


def griffin_lim(
    mel: Array,
    sample_rate: int,
    *,
    kind: str = "lmnt",
    fmax: float | None = None,
    rounds: int = ROUNDS,
    momentum: float = 0.99,
    seed: int = 0,
    threads: int = 1,
    device: torch.device | None = None,
    each_round: Callable[[], None] | None = None,
) -> FloatArray:
    """Compute a waveform by fast Griffin-Lim (Perraudin et al., 2013).

    A round takes the phase of the waveform that has the current spectrum, and keeps the magnitudes. The default
    momentum is librosa's.

    Args:
        mel: float [M, T].
        sample_rate: sample rate in Hz.
        kind: kind of the mel.
        fmax: the highest frequency of the mel in Hz, None for the kind's.
        rounds: number of corrections of the phase.
        momentum: 0 for the algorithm of Griffin and Lim (1984).
        seed: seed of the initial phase.
        threads: threads that share the frames of arrays. The result does not depend on them.
        device: computes the same with tensors on this device, up to rounding in float64; None for arrays.
        each_round: called before every round; an exception of it ends the computation.

    Returns:
        float32 [256 T] in [-1, 1], an array, or a tensor on the device.
    """
    inertia = momentum / (1.0 + momentum)
    with shared_by(threads if device is None else 1) as run:
        size = packed(magnitudes(mel, sample_rate, kind, fmax, run, device).T)
        previous: Spectrum = on_device(np.zeros(size.shape, complex), device)

        def keep_phase(rebuilt: Spectrum, block: slice) -> Spectrum:
            phase = rebuilt - inertia * previous[block]
            previous[block] = rebuilt
            gain = abs(phase)
            gain += SMALLEST
            phase *= library(gain).divide(size[block], gain, out=gain)
            return phase

        audio = in_rounds(_with_random_phases(size, seed, run), rounds, keep_phase, run, each_round)
    return trimmed(audio, len(size), kind)


def _with_random_phases(size: Array, seed: int, run: Run) -> Array:
    """Return the waveform [256 T + 768] of the magnitudes [T, 513]."""
    frames: Array = empty((len(size), N_FFT), size)
    phases = on_device(np.random.default_rng(seed).random(tuple(size.shape)), device_of(size))

    def begin(block: slice) -> None:
        frames[block] = windowed(library(size).exp(2j * np.pi * phases[block]) * size[block])

    run(begin, blocks_of(len(size), block_size(size)))
    return joined(frames)


def trimmed(audio: Array, frames: int, kind: str) -> FloatArray:
    """Return float32 [256 T] in [-1, 1]: a waveform with the padding of its front-end, without it."""
    samples = audio[KINDS[kind].pad :][: HOP * frames]
    return single(library(audio).clip(samples, -1.0, 1.0))  # type: ignore[no-any-return]
