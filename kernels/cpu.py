"""The CPU backend: csrc's kernels, one instance per network, instruction set and precision.

The operations are methods of `CpuNetwork`. They take and return what `kernels/reference.py` does, without the batch
dimension. `CpuNetwork.sweep` runs all of them over time.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from typing import Any, TypeAlias

import numpy as np

from engine.checks.arrays import FloatArray
from engine.config import Config
from engine.kernels import _native
from engine.kernels.label import label_row

# Rows of a tile. Many rows amortize the tile's barriers and the fetch of each layer's weights. Few rows save memory,
# since a tile is kept for every layer and step, and make cancelling prompt, since a tile cannot be interrupted.
TILE_ROWS = 1536
MIN_ROWS, MAX_ROWS = 96, 768  # per thread
LANES = 16  # floats of the widest vector
TILE_CHANNELS = 64  # a row of AMX's tile registers, in int8
MAX_MACS = 1e9  # per thread and tile: 20 ms with eight float32 lanes

# The tensors that determine a label's conditioner.
_LABEL_TENSORS = re.compile(r"label_|dilated_conv\.bias")

# Denoising steps that travel through time together. Both precisions of the native class have these methods.
Sweep: TypeAlias = _native.Sweep_fp32


def tiers() -> list[tuple[str, bool, str, list[str]]]:
    """Return (name, supported here, requirement, precisions) of every instruction set, slowest first."""
    return list(_native.tiers())


def precisions_of(isa: str) -> list[str]:
    """Return the precisions of an instruction set."""
    return next(precisions for name, _, _, precisions in tiers() if name == isa)


def normal(seed: int, step: int, begin: int, count: int) -> FloatArray:
    """Compute `engine.diffusion.noise.normal` in native code, to the same bits."""
    return _native.normal(seed, step, begin, count)


def peak(isa: str, precision: str, threads: int, seconds: float) -> float:
    """Measure the multiply-accumulates per second of threads that work on registers alone: every kernel's ceiling.

    Args:
        isa: the instruction set.
        precision: "fp32", "bf16" or "int8".
        threads: the number of threads.
        seconds: the duration of the measurement.
    """
    return _native.peak(isa, precision, threads, seconds)


class CpuNetwork:
    """The weights of one network, packed for one instruction set and precision.

    "fp32" computes in float32 throughout.

    "bf16" keeps weights and rows of activations in bfloat16 (rounded to nearest even). It sums products in float32. The
    skip sum, the output head and x are float32.

    "int8" quantizes the upsampled mel to uint8, and so the inputs and gated rows of the layers that have a range in
    `config.int8_ranges`. Weights are int8 with a scale per output channel, sums are int32. The conditioner of a
    quantized layer is int8 in units of these sums. All else is in the best other precision of the instruction set.

    The kernels compute multiples of LANES channels. Other numbers are padded with zeros: weights, biases and step
    biases of a padded channel are zero, so its gate is sigmoid(0) tanh(0) = 0 exactly, and no other channel reads it
    with another weight than zero.
    """

    def __init__(self, config: Config, tensors: Mapping[str, FloatArray], isa: str, precision: str) -> None:
        self.config = config
        self._channels = -(-config.residual_channels // LANES) * LANES
        arrays = _arrays(config, tensors, self._channels)
        if precision == "int8":
            arrays["ranges"] = np.array(config.int8_ranges, np.float32)
            if config.n_mels:
                arrays["mel_range"] = np.array([config.int8_mel_range], np.float32)
                ranges = np.reshape(np.array(config.int8_conditioner_ranges, np.float32), (config.residual_layers, -1))
                arrays["conditioner_ranges"] = self._padded(ranges, 2)
            precision = "bf16" if "bf16" in precisions_of(isa) else "fp32"
        self._native: _native.Network_fp32 = getattr(_native, f"Network_{precision}")(
            isa,
            arrays,
            list(config.dilations),
            list(config.upsample_strides),
            config.n_mels,
            config.padding == "reflect",
            config.step_bias_in_residual,
        )
        self._sweep = getattr(_native, f"Sweep_{precision}")
        label_tensors = {key: tensor for key, tensor in tensors.items() if _LABEL_TENSORS.search(key)}
        # A cached method would refer to its own object: the weights would live until the cyclic collector runs.
        self._conditioner_rows = lru_cache(maxsize=64)(partial(_compute_conditioner_rows, config, label_tensors))

    def normal(self, seed: int, step: int, begin: int, count: int) -> FloatArray:
        """Compute `engine.diffusion.noise.normal` in native code, to the same bits."""
        return normal(seed, step, begin, count)

    def frames_of(self, begin: int, end: int) -> tuple[int, int]:
        """Return the frames [first, last) that rows [begin, end) of the upsampled mel depend on.

        Frames outside the mel are included.
        """
        first, last = self._native.frames_of(begin, end)
        return first, last

    def rows(self, threads: int) -> int:
        """Return the rows of a tile per thread."""
        macs = self.config.residual_layers * 8 * self._channels**2  # per row
        rows = min(TILE_ROWS // threads, int(MAX_MACS / macs))
        return min(max(rows // 96 * 96, MIN_ROWS), MAX_ROWS)

    def sweep_bytes(self, steps: int, length: int | None, threads: int) -> int:
        """Return the working memory of a sweep in bytes.

        Args:
            steps: the number of steps that travel together.
            length: in samples; None for any length.
            threads: the number of threads that share a tile.
        """
        return self._native.sweep_bytes(steps, length, threads, self.rows(threads))

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
        """Prepare S steps. `Sweep.bind` sets the signals, `Sweep.advance` runs the steps.

        Args:
            d: [S,N,C], the step biases.
            coefficients: [S,3], a, b and sigma of every step: ``x <- a x + b eps + sigma z``.
            clamp: limit x to [-1,1] after every step.
            threads: the number of threads that share a tile.
            length: L in samples, T * hop with a mel; None while it is unknown.
            seed: the seed of the noise z = normal(seed, noise_step + s, sample).
            noise_step: the noise step of the first of these steps.
            rows: rows of a tile per thread, a multiple of 12; None for the network's default. No value depends on it.
            label: the index of the class (see `label_row`) for a network with classes; None for every other.

        Raises:
            ValueError: a label is missing, or the network takes none.
            IndexError: the network has no class of this index.
        """
        if (label is not None) != bool(self.config.classes):
            got = "none" if label is None else f"{label}"
            raise ValueError(f"label: expected {'one' if self.config.classes else 'none'} for this network, got {got}")
        conditioner_rows = None if label is None else self._padded(self._conditioner_rows(label), 2)
        sweep: Sweep = self._sweep(
            *(self._native, self._padded(d), coefficients, clamp, seed, noise_step, length, threads),
            *(rows or self.rows(threads), conditioner_rows),
        )
        return sweep

    def upsample_mel(self, mel: FloatArray, layer: int = 0) -> FloatArray:
        """Upsample a mel [M,F] to [M,L], by the layer's own upsampler if it has one; see `reference.upsample_mel`."""
        return _transposed(self._native.upsample_mel(layer, mel))

    def project_conditioner(self, layer: int, mel_up: FloatArray) -> FloatArray:
        """Project an upsampled mel [M,L] to [2C,L]; see `reference.project_conditioner`.

        The result includes the bias of the dilated convolution.
        """
        rows = self._native.project_conditioner(layer, _transposed(mel_up))
        return _transposed(_crop_halves(rows, self.config.residual_channels))

    def input_projection(self, x: FloatArray) -> FloatArray:
        """Project x [L] to h [C,L]; see `reference.input_projection`."""
        return _transposed(self._native.input_projection(x)[:, : self.config.residual_channels])

    def residual_block(
        self, layer: int, h: FloatArray, conditioner: FloatArray | None, d: FloatArray, skip: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Compute one residual layer; see `reference.residual_block`.

        Args:
            layer: the index of the layer.
            h: [C,L].
            conditioner: [2C,L], which includes the bias of the dilated convolution; None without one.
            d: [C], the step bias.
            skip: the skip sum [C,L] of the layers before. Layer 0 ignores it and starts from all layers' skip biases.

        Returns:
            h [C,L] and the skip sum [C,L] after this layer.
        """
        C = self.config.residual_channels
        rows, total = self._padded(_transposed(h)), self._padded(_transposed(skip))
        condition = None if conditioner is None else self._padded(_transposed(conditioner), 2)
        self._native.residual_block(layer, condition, self._padded(d), rows, total)
        return _transposed(rows[:, :C]), _transposed(total[:, :C])

    def output_head(self, skip: FloatArray) -> FloatArray:
        """Compute eps [L] from the skip sum [C,L]; see `reference.output_head`."""
        return self._native.output_head(self._padded(_transposed(skip)))

    def _padded(self, rows: FloatArray, halves: int = 1) -> FloatArray:
        """Pad rows [..., C], or of two halves [..., 2C], with the zeros of the padded channels."""
        return _pad_rows(rows, self.config.residual_channels, self._channels, halves)


def _compute_conditioner_rows(config: Config, tensors: Mapping[str, FloatArray], label: int) -> FloatArray:
    """Compute the conditioner [N,2C] of every sample, which includes the bias of the dilated convolution."""
    layers = range(config.residual_layers)
    biases = np.stack([tensors[f"residual_layers.{i}.dilated_conv.bias"] for i in layers])
    return (label_row(config, tensors, label) + biases).astype(np.float32)


def _transposed(array: Any) -> FloatArray:
    """Return a transposed copy. A single row or column is copied too, since the kernels write into it."""
    return np.array(array.T, dtype=np.float32, order="C")


def _pad(values: FloatArray, *sizes: int) -> FloatArray:
    """Pad the last axes with zeros to these sizes; values of these sizes are returned themselves."""
    more = [size - old for size, old in zip(sizes, values.shape[values.ndim - len(sizes) :], strict=True)]
    if not any(more):
        return values
    return np.pad(values, [(0, 0)] * (values.ndim - len(sizes)) + [(0, count) for count in more])


def _pad_rows(values: FloatArray, channels: int, padded: int, halves: int = 1) -> FloatArray:
    """Pad each half of rows [..., halves * channels]; rows of another size stay, and csrc's interface refuses them."""
    if padded == channels or values.shape[-1:] != (halves * channels,):
        return values
    shape = values.shape[:-1]
    return _pad(values.reshape(*shape, halves, channels), padded).reshape(*shape, halves * padded)


def _crop_halves(values: FloatArray, channels: int) -> FloatArray:
    """Return [..., 2 * channels] of wider halves."""
    shape = values.shape[:-1]
    if values.shape[-1] == 2 * channels:
        return values
    return values.reshape(*shape, 2, -1)[..., :channels].reshape(*shape, 2 * channels)


def _arrays(config: Config, tensors: Mapping[str, FloatArray], channels: int) -> dict[str, FloatArray]:
    """Return LMNT's tensors in the shapes of csrc (csrc/cpu/network.h, Parameters), padded to a number of channels."""

    def array(key: str, shape: Sequence[int], *padded: int) -> FloatArray:
        return np.ascontiguousarray(_pad(tensors[key].reshape(shape), *padded), dtype=np.float32)

    def layers(key: str, shape: Sequence[int], *padded: int) -> FloatArray:
        """Return weights whose rows are two halves, [N, 2 * channels, ...]."""
        keys = [f"residual_layers.{i}.{key}" for i in range(config.residual_layers)]
        rows = np.stack([array(key, [2, C, *shape], channels, *padded) for key in keys])
        return rows.reshape(len(keys), 2 * channels, *rows.shape[3:])

    C, M = config.residual_channels, config.n_mels
    arrays = {
        "input_weight": array("input_projection.weight", [C], channels),
        "input_bias": array("input_projection.bias", [C], channels),
        "dilated_weight": layers("dilated_conv.weight", [C, 3], channels, 3),
        "dilated_bias": layers("dilated_conv.bias", []),
        "projection_weight": layers("output_projection.weight", [C], channels),
        "projection_bias": layers("output_projection.bias", []),
        "skip_weight": array("skip_projection.weight", [C, C], channels, channels),
        "skip_bias": array("skip_projection.bias", [C], channels),
        "out_weight": array("output_projection.weight", [C], channels),
        "out_bias": array("output_projection.bias", [1]),
    }
    if M:
        arrays["conditioner_weight"] = layers("conditioner_projection.weight", [M], M)
        arrays["conditioner_bias"] = layers("conditioner_projection.bias", [])
        layer_prefixes = [f"residual_layers.{i}." for i in range(config.residual_layers)]
        prefixes = [""] if config.shared_upsampler else layer_prefixes
        for k, stride in enumerate(config.upsample_strides):
            keys = [f"{prefix}spectrogram_upsampler.conv{k + 1}" for prefix in prefixes]
            arrays[f"upsample_weight_{k}"] = np.stack([array(f"{key}.weight", [3, 2 * stride]) for key in keys])
            arrays[f"upsample_bias_{k}"] = np.concatenate([array(f"{key}.bias", [1]) for key in keys])
    return arrays
