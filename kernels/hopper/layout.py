"""Weights of stack.cu in the order of its products.

The left operand of wgmma m64nNk16 is a step of K. Gate and filter of a channel are rows g and g + 8 of the same 16, so
that one thread holds both of a sample (PTX ISA, asynchronous warpgroup instructions). "Interleaved" is the order of the
Triton kernels: gate and filter of channel 0, of channel 1, ...
"""

from __future__ import annotations

import math

import numpy as np

from engine.checks.arrays import FloatArray
from engine.kernels.cuda.groups import CHANNELS, Array, convolution_inputs, steps_of


def gate_columns(half: int) -> Array:
    """Return [C]: the interleaved column at each row of one half of the convolution, channels 32 half onwards."""
    row = np.arange(CHANNELS)
    channel = 32 * half + 8 * (row // 16) + row % 8
    return 2 * channel + row % 16 // 8


def stack_image(dilated: Array, conditioner: Array | None, projection: Array) -> FloatArray:
    """Arrange the weights of one layer: both halves of the convolution, the residual rows, the skip rows.

    Residual rows are multiplied by sqrt(1/2).

    Args:
        dilated: see `convolution_inputs`.
        conditioner: see `convolution_inputs`.
        projection: [C,2C], transposed, residual columns first.
    """
    inputs = convolution_inputs(dilated, conditioner)
    residual, skip = np.split(projection, 2, axis=1)
    parts = [inputs[:, gate_columns(0)], inputs[:, gate_columns(1)], residual * math.sqrt(0.5), skip]
    return np.concatenate([steps_of(part) for part in parts]).astype(np.float32)


def head_image(hidden: Array) -> FloatArray:
    """Arrange the hidden weights [C,C] of the output head, transposed."""
    return steps_of(hidden).astype(np.float32)
