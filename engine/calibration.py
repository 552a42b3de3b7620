"""Which inputs of residual layers become bytes in "int8", and over which range: found on mels of the user's kind.

Ranges are constants of the checkpoint (`Config.int8_ranges` and those beside them), so that audio never depends on
tiles or batches. The first layers see the noise almost as it is, with outliers, and stay in the precision that goes
with "int8": their inputs, their gated rows and their weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.audio.metrics import snr
from engine.checkpoint.load import Checkpoint
from engine.checks.arrays import FloatArray
from engine.checks.mels import check_mel, check_range
from engine.diffusion.embedding import step_biases
from engine.diffusion.noise import normal
from engine.diffusion.schedule import Schedule, build_schedule, update_terms
from engine.errors import InputError
from engine.kernels import registry
from engine.kernels.cpu import CpuNetwork
from engine.voice import Voice

EXCERPTS, FRAMES = 6, 64  # how much of the mels is looked at: stretches of so many frames, spread evenly
SHARE = 99.99  # percent of an input's values that its range must hold
HEADROOM = 1.5  # of the mel: louder speech, and other voices, than those that were looked at
CHANNEL_HEADROOM = 2.0  # of a channel of the conditioner, of which less was seen than of all together
LEAST = 0.25  # of the largest in its layer: no channel's range is smaller, however still it was
KEPT = (3, 4, 6, 8, 12, 16, 24)  # first layers that are not of bytes: as few of them as pass
EPS_DB, AUDIO_DB = 20.0, 25.0  # what int8 must reach against fp32, see `Agreement`


@dataclass(frozen=True)
class Agreement:
    """Int8 against fp32 on the same mels and noise: signal-to-noise ratios without the mean, in dB.

    Attributes:
        eps: the worst of all steps, each from the x that fp32 had there.
        audio: of all audio together.
    """

    eps: float
    audio: float

    @property
    def passed(self) -> bool:
        """Both are good enough."""
        return self.eps >= EPS_DB and self.audio >= AUDIO_DB


def calibrate(
    checkpoint: Checkpoint, mels: Sequence[Any], progress: Callable[[float], None] | None = None
) -> tuple[Checkpoint, Agreement]:
    """The checkpoint with its ranges, and what int8 reaches with them.

    Args:
        checkpoint: of a vocoder.
        mels: float32 [M,T] each, numpy or torch, of typical speech; a few seconds are enough.
        progress: called with the fraction done.

    Raises:
        InputError: an impossible mel, a network without one or with a prior, or int8 does not reach what
            `Agreement.passed` asks.
    """
    config = replace(checkpoint.config, int8_ranges=(), int8_mel_range=0.0, int8_conditioner_ranges=())
    if not config.n_mels or config.prior:
        raise InputError("calibrate: int8 is built for vocoders whose noise is white; expected one of those")
    batch = check_mel(list(mels), config)
    check_range(batch.items, config.mel_kind)
    excerpts = _excerpts(batch.items)
    N = config.residual_layers
    most = np.zeros(N + N * 2 * config.residual_channels + 1)
    observed = _observe(Checkpoint(config, checkpoint.tensors), excerpts)
    for count, found in enumerate(observed, start=1):
        most = np.maximum(most, found)
        if progress is not None:
            progress(0.9 * count / len(excerpts))
    inputs, mel = most[:N].tolist(), float(most[-1] * HEADROOM)
    conditioners = _with_headroom(most[N:-1].reshape(N, -1))
    agreement = None
    for kept in [count for count in KEPT if count < N]:
        ranges = tuple(r if i >= kept else 0.0 for i, r in enumerate(inputs))
        calibrated = Checkpoint(
            replace(config, int8_ranges=ranges, int8_mel_range=mel, int8_conditioner_ranges=conditioners),
            checkpoint.tensors,
        )
        agreement = agree(calibrated, excerpts)
        if agreement.passed:
            return calibrated, agreement
    reached = f"{agreement.eps:.1f} and {agreement.audio:.1f} dB" if agreement else "nothing: it has too few layers"
    raise InputError(
        f"calibrate: expected int8 to agree with fp32 by {EPS_DB:g} dB (eps) and {AUDIO_DB:g} dB (audio), got {reached}"
    )


def agree(checkpoint: Checkpoint, mels: Sequence[FloatArray]) -> Agreement:
    """How well a calibrated checkpoint's int8 agrees with its fp32."""
    voices = [
        Voice(checkpoint, registry.select("cpu", precision, calibrated=True), 1) for precision in ("fp32", "int8")
    ]
    plan, worst, pairs = build_schedule(checkpoint.config), float("inf"), []
    for seed, mel in enumerate(mels):
        for t, x in trajectory(voices[0], plan, mel, seed):
            worst = min(worst, snr(*(voice.predict_noise(x, t, mel) for voice in voices)))
        pairs.append([voice.vocode(mel, seed=seed) for voice in voices])
    exact, bytes_ = (np.concatenate(audio) for audio in zip(*pairs, strict=True))
    return Agreement(worst, snr(exact, bytes_))


def _observe(checkpoint: Checkpoint, mels: Sequence[FloatArray]) -> Iterator[npt.NDArray[np.float64]]:
    """For every mel [N + N 2C + 1]: what SHARE of |x| stays below at every layer's input, the most of all steps; the
    largest value in every channel of every layer's projected mel; and that of the upsampled mel.
    """
    config = checkpoint.config
    choice = registry.select("cpu", "fp32")
    network, voice = CpuNetwork(config, checkpoint.tensors, choice.isa, "fp32"), Voice(checkpoint, choice, 1)
    plan = build_schedule(config)
    d = step_biases(checkpoint.tensors, config, plan.t).astype(np.float32)
    for seed, mel in enumerate(mels):
        upsampled = [network.upsample_mel(mel, i) for i in range(1 if config.shared_upsampler else len(d[0]))]
        conditioners = [network.project_conditioner(i, upsampled[i % len(upsampled)]) for i in range(len(d[0]))]
        projected = [np.abs(c - _bias(checkpoint.tensors, i)).max(axis=1) for i, c in enumerate(conditioners)]
        found = []
        for step, (_, x) in enumerate(trajectory(voice, plan, mel, seed)):
            h, skip = network.input_projection(x), np.zeros((config.residual_channels, len(x)), np.float32)
            own = []
            for i, conditioner in enumerate(conditioners):
                own.append(np.percentile(np.abs(h), SHARE))
                h, skip = network.residual_block(i, h, conditioner, d[step, i], skip)
            found.append(own)
        yield np.array([*np.max(found, axis=0), *np.ravel(projected), np.max(np.abs(upsampled))])


def _with_headroom(most: npt.NDArray[np.float64]) -> tuple[float, ...]:
    """`Config.int8_conditioner_ranges` from [N,2C], the largest that was seen in each channel."""
    ranges = np.maximum(CHANNEL_HEADROOM * most, LEAST * most.max(axis=1, keepdims=True))
    return tuple(float(f"{value:.3g}") for value in ranges.ravel())  # in 3 digits: there are thousands


def _bias(tensors: Mapping[str, FloatArray], layer: int) -> FloatArray:
    """[2C,1]: what `CpuNetwork.project_conditioner` adds to the projected mel."""
    keys = (f"residual_layers.{layer}.{of}.bias" for of in ("dilated_conv", "conditioner_projection"))
    bias: FloatArray = np.sum([tensors[key] for key in keys], axis=0)[:, None]
    return bias


def trajectory(voice: Voice, plan: Schedule, mel: FloatArray, seed: int) -> Iterator[tuple[float, FloatArray]]:
    """(t, x [L]) before every step of `Voice.vocode`."""
    config, length = voice.config, mel.shape[1] * voice.hop
    x = normal(seed, 0, 0, length)
    for step, ((a, b, sigma), t) in enumerate(zip(update_terms(config, plan), plan.t, strict=True), start=1):
        yield t, x
        x = a * x + b * voice.predict_noise(x, t, mel) + sigma * normal(seed, step, 0, length)
        x = (np.clip(x, -1.0, 1.0) if config.clamp else x).astype(np.float32)


def _excerpts(mels: Sequence[FloatArray]) -> list[FloatArray]:
    """Up to EXCERPTS stretches of up to FRAMES frames."""
    pieces = [mel[:, begin : begin + FRAMES] for mel in mels for begin in range(0, mel.shape[1], FRAMES)]
    whole = [piece for piece in pieces if piece.shape[1] == FRAMES] or pieces
    count = min(EXCERPTS, len(whole))
    return [np.ascontiguousarray(whole[i * len(whole) // count]) for i in range(count)]
