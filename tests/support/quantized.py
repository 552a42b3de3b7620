"""The int8 residual layer in NumPy float64: the specification of precision "int8"."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from engine.config import Config
from tests.support.networks import Arrays


def with_ranges(config: Config) -> Config:
    """Return a configuration with int8 ranges. The first layer and every fourth keep their input unquantized."""
    layers = range(config.residual_layers)
    channels = range(2 * config.residual_channels)
    conditioner = tuple((2.0 + 0.1 * i) / (1 + c % 5) for i in layers for c in channels)
    with_mel = {"int8_mel_range": 2.5, "int8_conditioner_ranges": conditioner}
    ranges = tuple(3.0 + 0.1 * i if i % 4 else 0.0 for i in layers)
    return replace(config, int8_ranges=ranges, **(with_mel if config.n_mels else {}))


def conditioner_units(config: Config, tensors: Arrays, layer: int) -> Any:
    """Return the unit [2C,1] of an int8 conditioner: that of its layer's sums of products, times a power of two."""
    weights = tensors[f"residual_layers.{layer}.dilated_conv.weight"].astype(np.float64)
    unit = scale_of(weights) * config.int8_ranges[layer] / 127.0
    ranges = np.reshape(config.int8_conditioner_ranges, (config.residual_layers, -1))[layer]
    shift = np.ceil(np.log2(np.maximum(ranges / (127.0 * unit), 1.0)))
    return (unit * np.exp2(shift))[:, None]


def quantized_conditioner(config: Config, tensors: Arrays, layer: int, mel_up: Any) -> Any:
    """Compute `CpuNetwork.project_conditioner` for the output of `CpuNetwork.upsample_mel`."""
    weights = tensors[f"residual_layers.{layer}.conditioner_projection.weight"][:, :, 0].astype(np.float64)
    scale = scale_of(weights)[:, None]
    values = np.clip(np.rint(np.asarray(mel_up, np.float64) * 127.0 / config.int8_mel_range), -128.0, 127.0)
    sums = (np.rint(weights / scale) @ values) * (scale * config.int8_mel_range / 127.0)
    if config.int8_ranges[layer]:
        unit = conditioner_units(config, tensors, layer)
        sums = np.clip(np.rint(sums / unit), -128.0, 127.0) * unit
    return sums + conditioner_bias(tensors, layer)


def conditioner_bias(tensors: Arrays, layer: int) -> Any:
    """Return the bias [2C,1] of the projected mel."""
    keys = (f"residual_layers.{layer}.{name}.bias" for name in ("dilated_conv", "conditioner_projection"))
    return sum(tensors[key].astype(np.float64) for key in keys)[:, None]


def scale_of(weights: Any) -> Any:
    """Return a scale for each row, with which 127 represents the largest magnitude of the row."""
    largest = np.abs(weights.reshape(len(weights), -1)).max(axis=1)
    return np.where(largest > 0, largest, 127.0) / 127.0


def gated_int8(g: Any, f: Any) -> Any:
    """Compute sigmoid(g) tanh(f) in units of 1/127, interpolated between points a quarter apart.

    See csrc/cpu/residual_block/gate_table.h.
    """

    def line(function: Any, argument: Any) -> Any:
        word = np.clip(np.rint(argument * 4096.0), -32768, 32767).astype(np.int64)
        low, high = (np.rint(32767.0 * function(q / 4.0)).astype(np.int64) for q in (word >> 10, (word >> 10) + 1))
        return low + ((word & 1023) * 64 * (high - low) >> 16)

    def product(a: Any, b: Any) -> Any:
        return (a * b + (1 << 14)) >> 15

    sigmoid, tanh = line(lambda x: 1.0 / (1.0 + np.exp(-x)), g), line(lambda x: np.tanh(x / 2.0), 2.0 * f)
    return product(product(sigmoid, tanh), 127).astype(np.float64)


def convolve(rows: Any, weight: Any, dilation: int) -> Any:
    """Convolve rows [C,L + 2 dilation] with weights [2C,C,3] to [2C,L]."""
    length = rows.shape[1] - 2 * dilation
    return sum(weight[:, :, k] @ rows[:, k * dilation : k * dilation + length] for k in range(3))


def quantized_block(
    config: Config, tensors: Arrays, layer: int, h: Any, conditioner: Any, d: Any, skip: Any
) -> tuple[Any, Any]:
    """Compute `CpuNetwork.residual_block`."""
    layer_tensors = {key: tensors[f"residual_layers.{layer}.{key}"].astype(np.float64) for key in _KEYS}
    C, dilation, limit = config.residual_channels, config.dilations[layer], config.int8_ranges[layer]
    h, d = np.asarray(h, np.float64), np.asarray(d, np.float64)[:, None]
    dilated, projection = layer_tensors["dilated_conv.weight"], layer_tensors["output_projection.weight"][:, :, 0]
    mode: Any = {"mode": "reflect"} if config.padding == "reflect" else {"mode": "constant"}
    padded = np.pad(h + d, ((0, 0), (dilation, dilation)), **mode) - d
    if limit:
        scale = scale_of(dilated)
        weights = np.rint(dilated / scale[:, None, None])
        values = np.clip(np.rint(padded * 127.0 / limit), -128.0, 127.0)
        sums = convolve(values, weights, dilation) * (scale * limit / 127.0)[:, None]
        sums += dilated.sum(axis=2) @ d
    else:
        sums = convolve(padded + d, dilated, dilation)
    if conditioner is None:
        sums += layer_tensors["dilated_conv.bias"][:, None]
    elif limit and config.n_mels:
        bias, unit = conditioner_bias(tensors, layer), conditioner_units(config, tensors, layer)
        sums += np.clip(np.rint((conditioner - bias) / unit), -128.0, 127.0) * unit + bias
    else:
        sums += conditioner
    skip_weights = [tensors[f"residual_layers.{i}.output_projection.weight"][C:] for i in range(config.residual_layers)]
    skip_scale = np.max([scale_of(weight) for weight in skip_weights], axis=0)
    scale = np.concatenate([scale_of(projection[:C]), skip_scale])
    if limit:
        both = (np.rint(projection / scale[:, None]) @ gated_int8(sums[:C], sums[C:])) * (scale / 127.0)[:, None]
    else:
        both = projection @ (np.tanh(sums[C:]) / (1.0 + np.exp(-sums[:C])))
        both[C:] = np.rint(both[C:] / (scale[C:, None] / 127.0)) * (scale[C:, None] / 127.0)
    residual = (
        h + both[:C] + layer_tensors["output_projection.bias"][:C, None] + (d if config.step_bias_in_residual else 0.0)
    )
    biases = [tensors[f"residual_layers.{i}.output_projection.bias"][C:] for i in range(config.residual_layers)]
    start = np.sum(biases, axis=0, dtype=np.float64)[:, None] if layer == 0 else skip
    return residual * np.sqrt(0.5), start + both[C:]


_KEYS = ("dilated_conv.weight", "dilated_conv.bias", "output_projection.weight", "output_projection.bias")
