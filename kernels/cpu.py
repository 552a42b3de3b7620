"""The CPU backend: csrc's kernels, one instance per network, instruction set and precision.

Operations are methods of `CpuNetwork` and take and return what `kernels/reference.py` does, without the batch;
`sweep` runs all of them over time.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Protocol

import numpy as np

from engine.checks.arrays import FloatArray
from engine.config import Config
from engine.kernels import _native
from engine.kernels.label import label_row

# Rows of a tile: many, so that a layer's weights, fetched once per tile, and its barrier are paid for; but every row
# of a tile is kept for every layer and step, and a tile is what nobody can interrupt.
TILE_ROWS = 1536
MIN_ROWS, MAX_ROWS = 96, 768  # of one thread
MAX_MACS = 1e9  # of one thread in one tile: 20 ms where float32 has eight lanes

_MAKES_A_ROW = re.compile(r"label_|dilated_conv\.bias")  # what a label's conditioner is made of


class Sweep(Protocol):
    """Up to a handful of denoising steps on their way through time together (csrc/cpu/sweep.h)."""

    tile: int
    bytes: int

    def bind(
        self,
        x: FloatArray,
        origin: int = 0,
        mel: FloatArray | None = None,
        first_frame: int = 0,
        noise: FloatArray | None = None,
        scale: FloatArray | None = None,
        scale_origin: int = 0,
        repeat: int = 1,
    ) -> None:
        """Say where the signals are; again whenever they have moved.

        Args:
            x: [W] float32, C-contiguous: samples from `origin` on. Updated in place.
            origin: of x and of noise.
            mel: [M,F] float32, frames from `first_frame` on, any strides; None for an unconditional network.
            first_frame: of mel.
            noise: z [S or S-1, W] to be used instead of normal(seed, noise_step + s, sample).
            scale: multiplies the noise: one value for every `repeat` samples, from value `scale_origin` on.
            scale_origin: of scale.
            repeat: samples per value of scale.
        """

    def advance(self, step: int, begin: int, rows: int) -> None:
        """Take in samples [begin, begin + rows) at one step; x is final for those one reach earlier.

        `rows` is a multiple of 12 up to `tile`. ValueError where a window does not hold what the tile needs.
        """

    def end(self, length: int) -> None:
        """The length becomes known; no tile has gone past it."""


def tiers() -> list[tuple[str, bool, str, list[str]]]:
    """(name, supported here, what it requires, its precisions) of every instruction set, slowest first."""
    return list(_native.tiers())


def precisions_of(isa: str) -> list[str]:
    """What a tier can compute in."""
    return next(precisions for name, _, _, precisions in tiers() if name == isa)


def normal(seed: int, step: int, begin: int, count: int) -> FloatArray:
    """engine.diffusion.noise.normal, natively."""
    noise: FloatArray = _native.normal(seed, step, begin, count)
    return noise


def peak(isa: str, precision: str, threads: int, seconds: float) -> float:
    """Multiply-accumulates per second of `threads` threads on registers alone: the ceiling of every kernel."""
    return float(_native.peak(isa, precision, threads, seconds))


class CpuNetwork:
    """The weights of one network, packed for one instruction set and precision.

    Precision "fp32": all float32. "bf16": weights and rows of activations are bfloat16 (rounded to nearest even),
    products are summed in float32, the skip sum, the output head and x are float32. "int8": as the best other
    precision of the tier, but the upsampled mel, and the inputs and gated rows of the layers that have a range in
    `config.int8_ranges`, are unsigned bytes, multiplied by signed bytes with a scale per output channel and summed in
    int32; the conditioner of such a layer is signed bytes in units of these sums.
    """

    def __init__(self, config: Config, tensors: Mapping[str, FloatArray], isa: str, precision: str) -> None:
        self.config = config
        arrays = _arrays(config, tensors)
        if precision == "int8":
            arrays["ranges"] = np.array(config.int8_ranges, np.float32)
            if config.n_mels:
                arrays["mel_range"] = np.array([config.int8_mel_range], np.float32)
                arrays["conditioner_ranges"] = np.reshape(
                    np.array(config.int8_conditioner_ranges, np.float32), (config.residual_layers, -1)
                )
            precision = "bf16" if "bf16" in precisions_of(isa) else "fp32"
        self._native = getattr(_native, f"Network_{precision}")(
            isa,
            arrays,
            list(config.dilations),
            list(config.upsample_strides),
            config.n_mels,
            config.padding == "reflect",
            config.step_bias_in_residual,
        )
        self._sweep = getattr(_native, f"Sweep_{precision}")
        self._tensors = {key: tensor for key, tensor in tensors.items() if _MAKES_A_ROW.search(key)}
        self._conditioner_rows = lru_cache(maxsize=64)(self._compute_conditioner_rows)

    def normal(self, seed: int, step: int, begin: int, count: int) -> FloatArray:
        """engine.diffusion.noise.normal, natively."""
        return normal(seed, step, begin, count)

    def frames_of(self, begin: int, end: int) -> tuple[int, int]:
        """Frames [first, last) that rows [begin, end) of the upsampled mel are made of, whether they exist or not."""
        first, last = self._native.frames_of(begin, end)
        return int(first), int(last)

    def rows(self, threads: int) -> int:
        """Of a tile per thread."""
        config = self.config
        macs = config.residual_layers * 8 * config.residual_channels**2  # of one row
        rows = min(TILE_ROWS // threads, int(MAX_MACS / macs))
        return min(max(rows // 96 * 96, MIN_ROWS), MAX_ROWS)

    def sweep_bytes(self, steps: int, length: int | None, threads: int) -> int:
        """The working memory of a sweep of so many steps over so many samples, or over any number."""
        return int(self._native.sweep_bytes(steps, length, threads, self.rows(threads)))

    def sweep(
        self,
        d: FloatArray,
        coefficients: FloatArray,
        *,
        clamp: bool,
        threads: int,
        length: int | None = None,
        seed: int = 0,
        noise_step: int = 1,
        rows: int | None = None,
        label: int | None = None,
    ) -> Sweep:
        """Prepare S steps. `Sweep.bind` says over what, `Sweep.advance` runs them.

        Args:
            d: [S,N,C] the step biases.
            coefficients: [S,3] a, b and sigma: ``x <- a x + b eps + sigma z``.
            clamp: limit x to [-1,1] after every step.
            threads: how many share a tile.
            length: L in samples, T * hop with a mel; None while it is not known.
            seed: of the noise z = normal(seed, noise_step + s, sample).
            noise_step: of the first of these steps.
            rows: of a tile per thread, a multiple of 12; None for what suits the network. It changes no value.
            label: the number of the class, for a network with classes, see `label_row`; None for every other.

        Raises:
            ValueError: a label is missing, or not wanted.
            IndexError: there is no such class.
        """
        if (label is not None) != bool(self.config.classes):
            raise ValueError(f"label: expected {'one' if self.config.classes else 'none'} for this network")
        sweep: Sweep = self._sweep(
            *(self._native, d, coefficients, clamp, seed, noise_step, length, threads, rows or self.rows(threads)),
            None if label is None else self._conditioner_rows(label),
        )
        return sweep

    def _compute_conditioner_rows(self, label: int) -> FloatArray:
        """[N,2C]: what stands in for the mel's conditioner at every sample, the dilated convolution's bias included."""
        layers = range(self.config.residual_layers)
        biases = np.stack([self._tensors[f"residual_layers.{i}.dilated_conv.bias"] for i in layers])
        return (label_row(self.config, self._tensors, label) + biases).astype(np.float32)

    def upsample_mel(self, mel: FloatArray, layer: int = 0) -> FloatArray:
        """[M,T] -> [M,L], by the layer's upsampler where each has its own; see `reference.upsample_mel`."""
        return _transposed(self._native.upsample_mel(layer, mel))

    def project_conditioner(self, layer: int, mel_up: FloatArray) -> FloatArray:
        """[M,L] -> [2C,L], the dilated convolution's bias included; see `reference.project_conditioner`."""
        return _transposed(self._native.project_conditioner(layer, _transposed(mel_up)))

    def input_projection(self, x: FloatArray) -> FloatArray:
        """[L] -> [C,L]; see `reference.input_projection`."""
        return _transposed(self._native.input_projection(x))

    def residual_block(
        self, layer: int, h: FloatArray, conditioner: FloatArray | None, d: FloatArray, skip: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """h [C,L], conditioner [2C,L] (with the convolution's bias), d [C], skip sum [C,L] -> h, skip sum.

        In layer 0 the sum starts from the skip biases of all layers; see `reference.residual_block`.
        """
        rows, total = _transposed(h), _transposed(skip)
        given = None if conditioner is None else _transposed(conditioner)
        self._native.residual_block(layer, given, d, rows, total)
        return _transposed(rows), _transposed(total)

    def output_head(self, skip: FloatArray) -> FloatArray:
        """[C,L] -> eps [L]; see `reference.output_head`."""
        eps: FloatArray = self._native.output_head(_transposed(skip))
        return eps


def _transposed(array: Any) -> FloatArray:
    """A copy, even of a single row or column: the kernels write into it."""
    return np.array(array.T, dtype=np.float32, order="C")


def _arrays(config: Config, tensors: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
    """LMNT's tensors as csrc takes them (csrc/cpu/network.h, Parameters)."""

    def one(key: str, shape: Sequence[int]) -> FloatArray:
        return np.ascontiguousarray(tensors[key].reshape(shape), dtype=np.float32)

    def layers(key: str, shape: Sequence[int]) -> FloatArray:
        return np.stack([one(f"residual_layers.{i}.{key}", shape) for i in range(config.residual_layers)])

    C, M = config.residual_channels, config.n_mels
    arrays = {
        "input_weight": one("input_projection.weight", [C]),
        "input_bias": one("input_projection.bias", [C]),
        "dilated_weight": layers("dilated_conv.weight", [2 * C, C, 3]),
        "dilated_bias": layers("dilated_conv.bias", [2 * C]),
        "projection_weight": layers("output_projection.weight", [2 * C, C]),
        "projection_bias": layers("output_projection.bias", [2 * C]),
        "skip_weight": one("skip_projection.weight", [C, C]),
        "skip_bias": one("skip_projection.bias", [C]),
        "out_weight": one("output_projection.weight", [C]),
        "out_bias": one("output_projection.bias", [1]),
    }
    if M:
        arrays["conditioner_weight"] = layers("conditioner_projection.weight", [2 * C, M])
        arrays["conditioner_bias"] = layers("conditioner_projection.bias", [2 * C])
        places = [""] if config.shared_upsampler else [f"residual_layers.{i}." for i in range(config.residual_layers)]
        for k, stride in enumerate(config.upsample_strides):
            keys = [f"{place}spectrogram_upsampler.conv{k + 1}" for place in places]
            arrays[f"upsample_weight_{k}"] = np.stack([one(f"{key}.weight", [3, 2 * stride]) for key in keys])
            arrays[f"upsample_bias_{k}"] = np.concatenate([one(f"{key}.bias", [1]) for key in keys])
    return arrays
