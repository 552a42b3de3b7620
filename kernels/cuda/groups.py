"""Groups of layers: how the CUDA kernels divide a network, which networks they support, and the order of weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.config import Config
from engine.kernels.launch import ceil_div

Array = npt.NDArray[Any]
CHANNELS = 64  # a network with fewer is padded
MOST_LAYERS = 4  # of a launch: five would spoil 31 samples at either end of a tile
STEP = 2048  # bytes of a step of K: the weights of 16 inputs and 64 outputs


@dataclass(frozen=True)
class Group:
    """Consecutive layers whose dilations double.

    Attributes:
        first: the index of the first layer.
        layers: their number.
        stride: the dilation of the first one; the launch works on every stride-th sample.
    """

    first: int
    layers: int
    stride: int


def groups(dilations: Sequence[int]) -> tuple[Group, ...]:
    """Divide layers into groups of at most four, as equal as possible: a cycle of 10 layers into 4 + 3 + 3."""
    begins = [i for i in range(len(dilations)) if i == 0 or dilations[i] != 2 * dilations[i - 1]]
    result = []
    for first, last in zip(begins, [*begins[1:], len(dilations)], strict=True):
        parts = ceil_div(last - first, MOST_LAYERS)
        for part in range(parts):
            layers = ceil_div(last - first, parts - part)
            result.append(Group(first, layers, dilations[first]))
            first += layers
    return tuple(result)


def unsupported(config: Config, precision: str, is_mel_too_large: bool) -> str | None:
    """Return what the kernels support instead of this network, or None.

    Args:
        config: the configuration of the network.
        precision: the precision of the network.
        is_mel_too_large: whether a tile of its mel does not fit into shared memory.
    """
    obstacles = (
        (
            config.residual_channels > CHANNELS or precision not in ("fp16", "bf16"),
            f"up to {CHANNELS} channels in fp16 and bf16, this network has {config.residual_channels} in {precision}",
        ),
        (config.padding != "zeros", f"zero padding, this network has padding={config.padding!r}"),
        (not config.shared_upsampler, "one mel upsampler, this network has one in every layer"),
        (is_mel_too_large, f"mels that fit into shared memory, this network has {config.n_mels} bands"),
    )
    return next((what for is_unsupported, what in obstacles if is_unsupported), None)


def padded_bands(config: Config) -> int:
    """Return the mel bands of a network, padded to whole steps of K."""
    return ceil_div(config.n_mels, 16) * 16


def kept(layers: int, rows: int) -> int:
    """Return the samples of a tile that come out right: every layer spoils its dilation at either end."""
    return rows - 2 * ((1 << layers) - 1)


def convolution_steps(bands: int) -> int:
    """Return the steps of K of the convolution with its conditioner, for half of its outputs."""
    return (3 * CHANNELS + bands) // 16


def convolution_inputs(dilated: Array, conditioner: Array | None) -> Array:
    """Arrange the weights of convolution and conditioner by K: the taps, then the bands of the mel.

    Gates are halved, as sigmoid(x) = (tanh(x / 2) + 1) / 2.

    Args:
        dilated: [3,C,2C], W_k transposed, columns interleaved: gate and filter of channel 0, of channel 1, ...
        conditioner: [bands,2C], transposed, columns interleaved; None without a mel.

    Returns:
        [K,2C], columns interleaved.
    """
    inputs = dilated.reshape(-1, 2 * CHANNELS)
    if conditioner is not None:
        inputs = np.concatenate([inputs, conditioner])
    scaled: Array = inputs * np.tile([0.5, 1.0], CHANNELS)
    return scaled


def steps_of(columns: Array) -> Array:
    """Arrange weights [K,64] as K / 16 steps [2][64 outputs][8 inputs]: one operand of a product each."""
    image: Array = columns.reshape(-1, 8, CHANNELS).transpose(0, 2, 1).ravel()
    return image
