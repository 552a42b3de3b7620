"""Weights of one network in the layout of the GPU kernels: transposed, padded, gates and filters interleaved."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.checks.arrays import FloatArray
from engine.config import Config
from engine.kernels.launch import ceil_div


def _padded(values: npt.NDArray[Any], *shape: int) -> FloatArray:
    return np.pad(values, [(0, new - old) for new, old in zip(shape, values.shape, strict=True)]).astype("f4")


def interleaved(values: npt.NDArray[Any], channels: int) -> FloatArray:
    """Interleave the gate half and the filter half of [..., 2C]; pad to [..., 2 * channels]."""
    pairs = np.stack(np.split(values, 2, axis=-1), axis=-1)
    wide = _padded(pairs, *pairs.shape[:-2], channels, 2)
    return wide.reshape(*pairs.shape[:-2], 2 * channels)


def packed(
    config: Config, tensors: Mapping[str, FloatArray], channels: int, bands: int
) -> dict[str, tuple[npt.NDArray[Any], bool]]:
    """Pack LMNT's tensors for the kernels. Padding is zero everywhere.

    Args:
        config: the configuration of the network.
        tensors: LMNT's names.
        channels: the padded number of channels.
        bands: the padded number of mel bands.

    Returns:
        name -> (array, whether the kernels read it in storage precision rather than fp32).
    """
    C, M, N = config.residual_channels, config.n_mels, config.residual_layers
    scale = math.sqrt(1.0 / N)

    def exact_pair(key: str) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        weight, bias = tensors[f"{key}.weight"], tensors[f"{key}.bias"]
        return weight.reshape(weight.shape[0], -1).astype(np.float64), bias.astype(np.float64)

    layers: dict[str, list[npt.NDArray[Any]]] = {"dilated": [], "projection": [], "bias": [], "conditioner": []}
    steps, skip_bias = [], np.zeros(C)
    for i in range(N):
        layer = f"residual_layers.{i}"
        weight, bias = exact_pair(f"{layer}.dilated_conv")
        taps = interleaved(weight.reshape(2 * C, C, 3).transpose(2, 1, 0), channels)
        layers["dilated"].append(_padded(taps, 3, channels, 2 * channels))
        weight, projection_bias = exact_pair(f"{layer}.output_projection")
        halves = np.split(weight.T, 2, axis=1)
        layers["projection"].append(np.concatenate([_padded(half, channels, channels) for half in halves], axis=1))
        skip_bias += projection_bias[C:]
        if M:
            weight, conditioner_bias = exact_pair(f"{layer}.conditioner_projection")
            layers["conditioner"].append(_padded(interleaved(weight.T, channels), bands, 2 * channels))
            bias = bias + conditioner_bias
        layers["bias"].append(np.concatenate([interleaved(bias, channels), _padded(projection_bias[:C], channels)]))
        weight, bias = exact_pair(f"{layer}.diffusion_projection")
        steps.append((_padded(weight, channels, weight.shape[1]), _padded(bias, channels)))

    hidden, hidden_bias = exact_pair("skip_projection")
    out, out_bias = exact_pair("output_projection")
    entry, entry_bias = exact_pair("input_projection")
    stored = {name: (np.stack(parts), name != "bias") for name, parts in layers.items() if parts}
    exact: dict[str, npt.NDArray[Any]] = {
        "hidden_bias": _padded(hidden_bias + hidden @ skip_bias * scale, channels),
        "out": _padded(out[0], channels),
        "out_bias": out_bias,
        "input_weight": _padded(entry[:, 0], channels),
        "input_bias": _padded(entry_bias, channels),
        "step_weight": np.concatenate([weight for weight, _ in steps]),
        "step_bias": np.concatenate([bias for _, bias in steps]),
    }
    for number in (1, 2):
        exact[f"embedding{number}_weight"], exact[f"embedding{number}_bias"] = exact_pair(
            f"diffusion_embedding.projection{number}"
        )
    prefixes = [""] if config.shared_upsampler else [f"residual_layers.{i}." for i in range(N)]
    for k, stride in enumerate(config.upsample_strides):
        pairs = [exact_pair(f"{prefix}spectrogram_upsampler.conv{k + 1}") for prefix in prefixes]
        # [3,2s] and [1] of every upsampler, whole multiples of 16 bytes apart.
        exact[f"upsample_weight_{k}"] = np.stack(
            [_padded(weight.ravel(), ceil_div(6 * stride, 4) * 4) for weight, _ in pairs]
        )
        exact[f"upsample_bias_{k}"] = np.stack([_padded(bias, 4) for _, bias in pairs])
    return {
        **stored,
        "hidden": (_padded(hidden.T * scale, channels, channels), True),
        **{name: (values, False) for name, values in exact.items()},
    }
