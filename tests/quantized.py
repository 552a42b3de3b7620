"""The residual layer with products of bytes, as NumPy computes it in float64: what "int8" is to be."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from networks import Arrays

from engine.config import Config


def with_ranges(config: Config) -> Config:
    """Some layers keep their input as it is: the first, as always, and every fourth."""
    return replace(config, int8_ranges=tuple(3.0 + 0.1 * i if i % 4 else 0.0 for i in range(config.residual_layers)))


def scale_of(weights: Any) -> Any:
    """One for each row: what 127 stands for is the largest of it."""
    most = np.abs(weights.reshape(len(weights), -1)).max(axis=1)
    return np.where(most > 0, most, 127.0) / 127.0


def convolve(rows: Any, weight: Any, dilation: int) -> Any:
    """[C,L + 2 dilation], [2C,C,3] -> [2C,L]."""
    length = rows.shape[1] - 2 * dilation
    return sum(weight[:, :, k] @ rows[:, k * dilation : k * dilation + length] for k in range(3))


def quantized_block(
    config: Config, tensors: Arrays, layer: int, h: Any, conditioner: Any, d: Any, skip: Any
) -> tuple[Any, Any]:
    """As `CpuNetwork.residual_block`."""
    own = {key: tensors[f"residual_layers.{layer}.{key}"].astype(np.float64) for key in _KEYS}
    C, dilation, limit = config.residual_channels, config.dilations[layer], config.int8_ranges[layer]
    h, d = np.asarray(h, np.float64), np.asarray(d, np.float64)[:, None]
    dilated, projection = own["dilated_conv.weight"], own["output_projection.weight"][:, :, 0]
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
    sums += own["dilated_conv.bias"][:, None] if conditioner is None else conditioner
    gated = np.rint(127.0 * np.tanh(sums[C:]) / (1.0 + np.exp(-sums[:C])))
    everywhere = [tensors[f"residual_layers.{i}.output_projection.weight"][C:] for i in range(config.residual_layers)]
    scale = np.concatenate([scale_of(projection[:C]), np.max([scale_of(one) for one in everywhere], axis=0)])
    both = (np.rint(projection / scale[:, None]) @ gated) * (scale / 127.0)[:, None]
    residual = h + both[:C] + own["output_projection.bias"][:C, None] + (d if config.step_bias_in_residual else 0.0)
    biases = [tensors[f"residual_layers.{i}.output_projection.bias"][C:] for i in range(config.residual_layers)]
    start = np.sum(biases, axis=0, dtype=np.float64)[:, None] if layer == 0 else skip
    return residual * np.sqrt(0.5), start + both[C:]


_KEYS = ("dilated_conv.weight", "dilated_conv.bias", "output_projection.weight", "output_projection.bias")
