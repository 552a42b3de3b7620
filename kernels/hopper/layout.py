"""The order of the columns in `residual_block.cu`: what a thread holds of one product is what it needs for the next.

Of a product [64, N] by wgmma, thread t of four holds columns 8 j + 2 t + (0, 1); of a left side in registers it holds
columns 16 k + 2 t + (0, 1, 8, 9) (PTX ISA, asynchronous warpgroup instructions). "Interleaved" is the order of Triton's
kernels: gate and filter of channel 0, gate and filter of channel 1, ...
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
    """[2C]: the interleaved column that stands at each column of the convolution's product.

    The channels of a thread's gates are those that it multiplies next.
    """
    n = np.arange(2 * CHANNELS)
    j, t, which = n // 8, n % 8 // 2, n % 2
    return 2 * (16 * (j // 4) + 2 * t + j % 2 + 8 * (j % 4 // 2)) + which


def out_columns() -> Array:
    """[C]: the channel that stands at each column of the projection's halves. A thread has 16 in a row."""
    n = np.arange(CHANNELS)
    return 16 * (n % 8 // 2) + 2 * (n // 8) + n % 2


def conditioner_columns() -> Array:
    """[2C]: the interleaved column at each place of a conditioner's row. A thread reads 8 in a row, four times."""
    place = np.arange(2 * CHANNELS)
    i, t, u = place // 32, place % 32 // 8, place % 8
    columns: Array = gate_columns()[8 * (4 * i + u // 2) + 2 * t + u % 2]
    return columns


def image(dilated: Array, projection: Array) -> FloatArray:
    """The shared memory of a block: three taps and the projection, each [2C,C], swizzled as wgmma reads them.

    Args:
        dilated: [3,C,2C], W_k transposed, columns interleaved.
        projection: [C,2C], transposed, residual columns first; these are multiplied by sqrt(1/2) here.
    """
    residual, skip = np.split(projection, 2, axis=1)
    columns = out_columns()
    last = np.concatenate([residual[:, columns] * math.sqrt(0.5), skip[:, columns]], axis=1)
    parts = [tap[:, gate_columns()] for tap in dilated] + [last]
    return np.concatenate([_swizzled(part.T) for part in parts]).astype(np.float32)


def _swizzled(rows: Array) -> Array:
    """Rows [N,C] of 16-bit numbers, 128 bytes each; their eight 16-byte pieces are exchanged by the row's number."""
    n, k = np.indices(rows.shape)
    made = np.empty_like(rows)
    made[n, (k // 8 ^ n % 8) * 8 + k % 8] = rows
    return made.ravel()
