"""Calibration for precision "int8": which residual layers compute in int8, and the ranges of their values.

The ranges are measured on mels of the user's kind and become constants of the checkpoint (`Config.int8_ranges` and the
fields beside it), so audio never depends on tiles or batches. The first layers see almost pure noise, with outliers.
They stay out of int8, with their inputs, their gated rows and their weights, and compute in the precision that
accompanies it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from engine.audio.metrics import snr
from engine.checkpoint.load import Checkpoint
from engine.checks.arrays import AnyArray, FloatArray
from engine.checks.mels import check_mel, fit_to_kind
from engine.diffusion.embedding import step_biases
from engine.diffusion.noise import normal
from engine.diffusion.schedule import Schedule, build_schedule, update_terms
from engine.errors import InputError
from engine.kernels import registry
from engine.kernels.cpu import CpuNetwork
from engine.voice import Voice

EXCERPTS, FRAMES = 6, 64  # number and length of the excerpts of the mels, evenly spaced
PERCENTILE = 99.99  # percentile of an input's absolute values that its range must hold
MEL_HEADROOM = 1.5  # factor between the excerpts' maximum and the mel's range, for louder speech and other voices
CHANNEL_HEADROOM = 2.0  # the same factor for a channel of the conditioner, which has fewer values than the whole mel
MIN_CHANNEL_SHARE = 0.25  # smallest range of a channel, even a silent one, relative to the layer's largest maximum
EXCLUDED_COUNTS = (3, 4, 6, 8, 12, 16, 24)  # numbers of first layers to leave out of int8; the first that passes
EPS_DB, AUDIO_DB = 20.0, 25.0  # the required agreement with fp32, see `Agreement`


@dataclass(frozen=True)
class Agreement:
    """The signal-to-noise ratios of int8 against fp32 for the same mels and noise, in dB.

    Attributes:
        eps: the smallest ratio of all steps; each step starts from the x of fp32.
        audio: the ratio over all audio.
    """

    eps: float
    audio: float

    @property
    def passed(self) -> bool:
        """Whether both ratios suffice."""
        return self.eps >= EPS_DB and self.audio >= AUDIO_DB


def calibrate(
    checkpoint: Checkpoint, mels: Sequence[AnyArray], progress: Callable[[float], None] | None = None
) -> tuple[Checkpoint, Agreement]:
    """Measure the int8 ranges of a checkpoint, leaving out as few first layers as possible.

    Args:
        checkpoint: checkpoint of a vocoder.
        mels: float32 [M,T] each, NumPy or torch, of typical speech; a few seconds are enough.
        progress: called with the fraction that is done.

    Returns:
        The checkpoint with its ranges, and the agreement of int8 with fp32.

    Raises:
        InputError: a mel is impossible, the network takes no mel or has a prior, or no number of excluded layers
            passes (`Agreement.passed`).
    """
    config = replace(checkpoint.config, int8_ranges=(), int8_mel_range=0.0, int8_conditioner_ranges=())
    if not config.n_mels or config.prior:
        got = "one with a prior" if config.n_mels else "an unconditional network"
        raise InputError(f"calibrate: expected a vocoder with white noise, the only kind that int8 supports, got {got}")
    batch = fit_to_kind(check_mel(list(mels), config), config.mel_kind)
    excerpts = _excerpts(batch.items)
    N = config.residual_layers
    maxima = np.zeros(N + N * 2 * config.residual_channels + 1)
    for count, values in enumerate(_excerpt_maxima(Checkpoint(config, checkpoint.tensors), excerpts), start=1):
        maxima = np.maximum(maxima, values)
        if progress is not None:
            progress(0.9 * count / len(excerpts))
    inputs, mel = maxima[:N].tolist(), float(maxima[-1] * MEL_HEADROOM)
    conditioners = _conditioner_ranges(maxima[N:-1].reshape(N, -1))
    agreement = None
    for excluded in [count for count in EXCLUDED_COUNTS if count < N]:
        ranges = tuple(r if i >= excluded else 0.0 for i, r in enumerate(inputs))
        calibrated = Checkpoint(
            replace(config, int8_ranges=ranges, int8_mel_range=mel, int8_conditioner_ranges=conditioners),
            checkpoint.tensors,
        )
        agreement = measure_agreement(calibrated, excerpts)
        if agreement.passed:
            return calibrated, agreement
    if agreement is None:
        raise InputError(f"calibrate: expected more than {EXCLUDED_COUNTS[0]} residual layers, got {N}")
    raise InputError(
        f"calibrate: expected int8 to agree with fp32 by {EPS_DB:g} dB (eps) and {AUDIO_DB:g} dB (audio), got "
        f"{agreement.eps:.1f} and {agreement.audio:.1f} dB"
    )


def measure_agreement(checkpoint: Checkpoint, mels: Sequence[FloatArray]) -> Agreement:
    """Measure the agreement of a calibrated checkpoint's int8 with its fp32.

    Args:
        checkpoint: a checkpoint with int8 ranges.
        mels: [M,T] each.
    """
    voices = [
        Voice(checkpoint, registry.select("cpu", precision, calibrated=True), 1) for precision in ("fp32", "int8")
    ]
    plan, worst, pairs = build_schedule(checkpoint.config), float("inf"), []
    for seed, mel in enumerate(mels):
        for t, x in trajectory(voices[0], plan, mel, seed):
            worst = min(worst, snr(*(voice.predict_noise(x, t, mel=mel) for voice in voices)))
        pairs.append([voice.vocode(mel, seed=seed) for voice in voices])
    exact, quantized = (np.concatenate(audio) for audio in zip(*pairs, strict=True))
    return Agreement(worst, snr(exact, quantized))


def _excerpt_maxima(checkpoint: Checkpoint, mels: Sequence[FloatArray]) -> Iterator[npt.NDArray[np.float64]]:
    """Yield the largest absolute values of every mel, [N + N 2C + 1].

    In this order: PERCENTILE of every layer's input, the largest of all steps; the maximum of every channel of every
    layer's projected mel; the maximum of the upsampled mel.
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
        inputs = []
        for step, (_, x) in enumerate(trajectory(voice, plan, mel, seed)):
            h, skip = network.input_projection(x), np.zeros((config.residual_channels, len(x)), np.float32)
            inputs_of_step = []
            for i, conditioner in enumerate(conditioners):
                inputs_of_step.append(np.percentile(np.abs(h), PERCENTILE))
                h, skip = network.residual_block(i, h, conditioner, d[step, i], skip)
            inputs.append(inputs_of_step)
        yield np.array([*np.max(inputs, axis=0), *np.ravel(projected), np.max(np.abs(upsampled))])


def _conditioner_ranges(maxima: npt.NDArray[np.float64]) -> tuple[float, ...]:
    """Return `Config.int8_conditioner_ranges` for the maximum of each channel, [N,2C]."""
    ranges = np.maximum(CHANNEL_HEADROOM * maxima, MIN_CHANNEL_SHARE * maxima.max(axis=1, keepdims=True))
    return tuple(float(f"{value:.3g}") for value in ranges.ravel())  # 3 digits, because the file holds thousands


def _bias(tensors: Mapping[str, FloatArray], layer: int) -> FloatArray:
    """Return the bias [2C,1] that `CpuNetwork.project_conditioner` adds to the projected mel."""
    keys = (f"residual_layers.{layer}.{name}.bias" for name in ("dilated_conv", "conditioner_projection"))
    bias: FloatArray = np.sum([tensors[key] for key in keys], axis=0)[:, None]
    return bias


def trajectory(voice: Voice, plan: Schedule, mel: FloatArray, seed: int) -> Iterator[tuple[float, FloatArray]]:
    """Yield (t, x [L]) before every step of `Voice.vocode`.

    Args:
        voice: the voice that computes the steps.
        plan: the schedule.
        mel: [M,T].
        seed: seed of the noise.
    """
    config, length = voice.config, mel.shape[1] * voice.hop
    x = normal(seed, 0, 0, length)
    for step, ((a, b, sigma), t) in enumerate(zip(update_terms(config, plan), plan.t, strict=True), start=1):
        yield t, x
        x = a * x + b * voice.predict_noise(x, t, mel=mel) + sigma * normal(seed, step, 0, length)
        x = (np.clip(x, -1.0, 1.0) if config.clamp else x).astype(np.float32)


def _excerpts(mels: Sequence[FloatArray]) -> list[FloatArray]:
    """Return up to EXCERPTS contiguous excerpts of up to FRAMES frames."""
    pieces = [mel[:, begin : begin + FRAMES] for mel in mels for begin in range(0, mel.shape[1], FRAMES)]
    candidates = [piece for piece in pieces if piece.shape[1] == FRAMES] or pieces
    count = min(EXCERPTS, len(candidates))
    return [np.ascontiguousarray(candidates[i * len(candidates) // count]) for i in range(count)]
