"""Weights of stack.cu in the order of its products.

The right operand of mma m16n8k16 is [16 inputs][8 outputs]; a step of K holds eight of them. The lane t of a group of
four holds columns 2t and 2t + 1 of a product, and multiplies rows 2t, 2t + 1, 2t + 8 and 2t + 9 of K (PTX ISA, matrix
fragments). Two orders let a lane use what it holds:

- Outputs of the convolution are interleaved, so that a lane holds gate and filter of a channel. The projections of z
  read the channels in the order in which the lanes hold them.
- Outputs of the projections are ordered so that a lane holds 8 neighbouring channels, one access of 16 bytes. The head
  reads the skip sum in that order.
"""

from __future__ import annotations

import math

import numpy as np

from engine.checks.arrays import FloatArray
from engine.kernels.cuda.groups import CHANNELS, Array, convolution_inputs, steps_of


def gated_channels() -> Array:
    """Return [C]: the channel of z at each place of K. Column 8n + 2t of a half belongs to channel 4n + t of it."""
    k = np.arange(CHANNELS)
    t, block = k % 8 // 2, k // 8 * 2 + k % 2  # of the 16 blocks of 8 columns of both halves
    return 4 * block + t


def projected_channels() -> Array:
    """Return [C]: the channel at each column of a projection. Columns 2t, 2t + 1 of four blocks are 8 channels."""
    column = np.arange(CHANNELS)
    half, block, t = column // 32, column % 32 // 8, column % 8 // 2
    return 32 * half + 8 * t + 2 * block + column % 2


def stack_image(dilated: Array, conditioner: Array | None, projection: Array) -> FloatArray:
    """Arrange the weights of one layer: both halves of the convolution, the residual columns, the skip columns.

    Residual columns are multiplied by sqrt(1/2).

    Args:
        dilated: see `convolution_inputs`.
        conditioner: see `convolution_inputs`.
        projection: [C,2C], transposed, residual columns first.
    """
    inputs = convolution_inputs(dilated, conditioner)
    residual, skip = (part[gated_channels()][:, projected_channels()] for part in np.split(projection, 2, axis=1))
    parts = [*np.split(inputs, 2, axis=1), residual * math.sqrt(0.5), skip]
    return np.concatenate([steps_of(part) for part in parts]).astype(np.float32)


def head_image(hidden: Array) -> FloatArray:
    """Arrange the hidden weights [C,C] of the output head, transposed."""
    return steps_of(hidden[projected_channels()]).astype(np.float32)
