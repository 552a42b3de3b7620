"""Column order of the weights in `residual_block.cu`.

The order makes the columns that a thread holds of one product the columns that it needs for the next product. Of a
product [64, N] by wgmma, thread t of four holds columns 8 j + 2 t + (0, 1). Of a left operand in registers it holds
columns 16 k + 2 t + (0, 1, 8, 9) (PTX ISA, asynchronous warpgroup instructions). "Interleaved" is the order of the
Triton kernels: gate and filter of channel 0, gate and filter of channel 1, ...
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.checks.arrays import FloatArray

Array = npt.NDArray[Any]
CHANNELS = 64


def gate_columns() -> Array:
    """Return [2C]: the interleaved column at each column of the convolution's product.

    A thread multiplies next the channels whose gates it computes.
    """
    n = np.arange(2 * CHANNELS)
    j, t, is_filter = n // 8, n % 8 // 2, n % 2
    return 2 * (16 * (j // 4) + 2 * t + j % 2 + 8 * (j % 4 // 2)) + is_filter


def out_columns() -> Array:
    """Return [C]: the channel at each column of the projection's halves. A thread holds 16 consecutive channels."""
    n = np.arange(CHANNELS)
    return 16 * (n % 8 // 2) + 2 * (n // 8) + n % 2


def conditioner_columns() -> Array:
    """Return [2C]: the interleaved column at each position of a conditioner's row.

    A thread reads 8 consecutive values, four times.
    """
    position = np.arange(2 * CHANNELS)
    i, t, u = position // 32, position % 32 // 8, position % 8
    columns: Array = gate_columns()[8 * (4 * i + u // 2) + 2 * t + u % 2]
    return columns


def image(dilated: Array, projection: Array) -> FloatArray:
    """Arrange the weights as the shared memory of a block: three taps and the projection, each [2C,C], swizzled.

    The residual columns are multiplied by sqrt(1/2).

    Args:
        dilated: [3,C,2C], W_k transposed, columns interleaved.
        projection: [C,2C], transposed, residual columns first.
    """
    residual, skip = np.split(projection, 2, axis=1)
    columns = out_columns()
    outputs = np.concatenate([residual[:, columns] * math.sqrt(0.5), skip[:, columns]], axis=1)
    parts = [tap[:, gate_columns()] for tap in dilated] + [outputs]
    return np.concatenate([_swizzled(part.T) for part in parts]).astype(np.float32)


def _swizzled(rows: Array) -> Array:
    """Swizzle rows [N,C] of 16-bit numbers: permute the eight 16-byte pieces of each row by the row's index."""
    n, k = np.indices(rows.shape)
    swizzled = np.empty_like(rows)
    swizzled[n, (k // 8 ^ n % 8) * 8 + k % 8] = rows
    return swizzled.ravel()
