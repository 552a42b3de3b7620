"""Weights of stack.cu in the order of its products.

The left operand of wgmma m64nNk16 is a step of K: [2][64 rows][8 columns] of 16-bit numbers. Gate and filter of a
channel are rows g and g + 8 of the same 16, so that one thread holds both of a sample (PTX ISA, asynchronous warpgroup
instructions). "Interleaved" is the order of the Triton kernels: gate and filter of channel 0, of channel 1, ...
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.checks.arrays import FloatArray

Array = npt.NDArray[Any]
CHANNELS = 64


def gate_columns(half: int) -> Array:
    """Return [C]: the interleaved column at each row of one half of the convolution, channels 32 half onwards."""
    row = np.arange(CHANNELS)
    channel = 32 * half + 8 * (row // 16) + row % 8
    return 2 * channel + row % 16 // 8


def stack_image(dilated: Array, conditioner: Array | None, projection: Array) -> FloatArray:
    """Arrange the weights of one layer: both halves of the convolution, the residual rows, the skip rows.

    K runs over the taps, then over the bands of the mel. Gates are halved, as sigmoid(x) = (tanh(x / 2) + 1) / 2;
    residual rows are multiplied by sqrt(1/2).

    Args:
        dilated: [3,C,2C], W_k transposed, columns interleaved.
        conditioner: [bands,2C], transposed, columns interleaved; None without a mel.
        projection: [C,2C], transposed, residual columns first.
    """
    inputs = dilated.reshape(-1, 2 * CHANNELS)
    if conditioner is not None:
        inputs = np.concatenate([inputs, conditioner])
    inputs = inputs * np.tile([0.5, 1.0], CHANNELS)
    residual, skip = np.split(projection, 2, axis=1)
    parts = [inputs[:, gate_columns(0)], inputs[:, gate_columns(1)], residual * math.sqrt(0.5), skip]
    return np.concatenate([_steps(part) for part in parts]).astype(np.float32)


def head_image(hidden: Array) -> FloatArray:
    """Arrange the hidden weights [C,C] of the output head, transposed."""
    return _steps(hidden).astype(np.float32)


def _steps(columns: Array) -> Array:
    """Arrange [K,64] as the left operands of K / 16 products."""
    return columns.reshape(-1, 8, CHANNELS).transpose(0, 2, 1).ravel()
