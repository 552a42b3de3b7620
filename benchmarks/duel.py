"""Contenders take turns: a neighbour on the machine can halve any figure for minutes, so only rounds compare.

The peak is measured right before and after every call, and an accuracy gate goes first: a fast wrong answer is no
speed-up.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from report import quantiles, snr
from tolerances import relative_error

from engine.checkpoint import Checkpoint
from engine.config import Config
from engine.kernels import reference
from engine.noise import normal
from engine.schedule import build_schedule

Array = npt.NDArray[np.float32]

EAGER, FP32, BF16 = "PyTorch eager fp32", "fp32", "bf16"
FP32_ERROR = 3e-4  # of the peak amplitude, against PyTorch: what two orders of summation make of 6 steps
BF16_SNR = 35.0  # dB, against fp32


@dataclass(frozen=True)
class Contender:
    """Who takes part.

    Attributes:
        name: of the row.
        call: the work that is timed; returns the audio [B,L].
        peak: measures the ceiling, multiply-accumulates per second.
        every: it takes part in rounds 0, every, 2 * every, ...
    """

    name: str
    call: Callable[[], Array]
    peak: Callable[[], float]
    every: int = 1


@dataclass(frozen=True)
class Lap:
    """One call: its seconds, and the peak beside it in multiply-accumulates per second."""

    seconds: float
    peak: float


class Eager:
    """LMNT's model as PyTorch runs it, operation by operation, the conditioner anew in every step."""

    def __init__(self, checkpoint: Checkpoint, threads: int) -> None:
        self.config = checkpoint.config
        self.threads = threads
        self._weights = reference.to_tensors(checkpoint.tensors, torch.float32)

    def prepare(self, mel: Array, seed: int) -> Callable[[], Array]:
        """`Voice.vocode(mel, 6, seed)` for mel [B,M,T] as a call; its noise is made here, outside the clock."""
        plan = build_schedule(self.config)
        items, length = range(len(mel)), mel.shape[2] * self.config.hop
        noise = [np.stack([normal(seed + i, n, 0, length) for i in items]) for n in range(len(plan))]
        x_T, *z = map(torch.from_numpy, noise)
        mels = torch.from_numpy(np.ascontiguousarray(mel))

        def call() -> Array:
            before = torch.get_num_threads()
            torch.set_num_threads(self.threads)
            try:
                with torch.inference_mode():
                    x = x_T
                    for n, t in enumerate(plan.t):
                        eps = self._predict_noise(x, t, mels)
                        added = z[n] if n < len(z) else None
                        x = reference.noise_update(x, eps, plan.a[n], plan.b[n], plan.sigma[n], added)
                    return x.numpy()
            finally:
                torch.set_num_threads(before)

        return call

    def _predict_noise(self, x: torch.Tensor, t: float, mels: torch.Tensor) -> torch.Tensor:
        # Not reference.predict_noise: it holds the conditioners of all layers at once, a gigabyte for 4 s of audio.
        def pair(key: str) -> tuple[torch.Tensor, torch.Tensor]:
            return self._weights[f"{key}.weight"], self._weights[f"{key}.bias"]

        mel_up = reference.upsample_mel(mels, self._weights, self.config.upsample_strides)
        features = reference.step_features(
            reference.step_embedding(t, len(self.config.train_schedule), x.dtype),
            *pair("diffusion_embedding.projection1"),
            *pair("diffusion_embedding.projection2"),
        )
        h, total = reference.input_projection(x, *pair("input_projection")), None
        for i, dilation in enumerate(self.config.dilations):
            layer = f"residual_layers.{i}"
            conditioner = reference.project_conditioner(mel_up, *pair(f"{layer}.conditioner_projection"))
            d = reference.step_bias(features, *pair(f"{layer}.diffusion_projection"))
            dilated, output = pair(f"{layer}.dilated_conv"), pair(f"{layer}.output_projection")
            h, skip = reference.residual_block(h, conditioner, d, *dilated, *output, dilation)
            total = skip if total is None else total + skip
        head = pair("skip_projection"), pair("output_projection")
        return reference.output_head(total, *head[0], *head[1], self.config.residual_layers)


def gate(audio: Mapping[str, Array]) -> dict[str, float]:
    """Compare the contenders' audio, made from the same mels and noise; AssertionError when one is wrong."""
    figures = {"fp32_error": relative_error(audio[FP32], audio[EAGER])}
    assert figures["fp32_error"] < FP32_ERROR, f"fp32 differs from PyTorch by {figures['fp32_error']:.2g} of its peak"
    if BF16 in audio:
        figures["bf16_snr_db"] = snr(audio[FP32], audio[BF16])
        assert figures["bf16_snr_db"] >= BF16_SNR, f"bf16 has an SNR of {figures['bf16_snr_db']:.3g} dB against fp32"
    return figures


def run(contenders: Sequence[Contender], rounds: int) -> tuple[dict[str, dict[int, Lap]], dict[str, Array]]:
    """Let everybody run once per round. Returns the laps by name and round, and everybody's last audio."""
    laps: dict[str, dict[int, Lap]] = {one.name: {} for one in contenders}
    audio = {}
    for number in range(rounds):
        for one in contenders:
            if number % one.every:
                continue
            before = one.peak()
            begin = time.perf_counter()
            audio[one.name] = one.call()
            seconds = time.perf_counter() - begin
            laps[one.name][number] = Lap(seconds, (before + one.peak()) / 2)
    return laps, audio


def rows(laps: Mapping[str, Mapping[int, Lap]], work: float, audio_seconds: float) -> list[dict[str, Any]]:
    """A row of figures per contender.

    Args:
        laps: from `run`.
        work: multiply-accumulates of the residual layers in one call.
        audio_seconds: of one call.
    """
    table = []
    for name, own in laps.items():
        both = [number for number in own if number in laps[EAGER]]
        table.append(
            {
                "contender": name,
                "rounds": len(own),
                "audio_seconds": audio_seconds * len(own),
                "work_seconds": sum(lap.seconds for lap in own.values()),
                "seconds": quantiles([lap.seconds for lap in own.values()]),
                "peak_gflops": quantiles([2e-9 * lap.peak for lap in own.values()]),
                "share_of_peak": quantiles([work / lap.seconds / lap.peak for lap in own.values()]),
                "times_eager": quantiles([laps[EAGER][n].seconds / own[n].seconds for n in both]),
            }
        )
    return table


def layer_work(config: Config, steps: int, samples: int) -> float:
    """Multiply-accumulates of the residual layers alone: 3 taps of C x 2C and one C x 2C per layer and sample."""
    return float(steps * config.residual_layers * 8 * config.residual_channels**2 * samples)
