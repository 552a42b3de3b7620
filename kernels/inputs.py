"""The small inputs of a call in one block of memory: one copy brings all of them to a GPU."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from engine.kernels.launch import ceil_div

ALIGNED = 4  # words: the kernels read from addresses that are multiples of 16 bytes


@dataclass(frozen=True, eq=False)
class Inputs:
    """Views of one block of 32-bit words.

    Attributes:
        terms: [G,4] fp32, a, b, sigma and limit of every step.
        noise_steps: [G,4] int32, the noise step of every step, in column 0.
        seeds: [B] int64, the items' seeds.
        begins: [B] int64, the sample of the item that lies at row 0.
        lengths: [B] int32, in samples.
    """

    terms: Any
    noise_steps: Any
    seeds: Any
    begins: Any
    lengths: Any


def count_words(items: int, steps: int) -> int:
    """Return the 32-bit words of a block for B items and G steps."""
    return 8 * steps + 2 * _aligned(2 * items) + _aligned(items)


def split_block(block: Any, items: int, steps: int, dtypes: Mapping[str, Any]) -> Inputs:
    """Return the parts of a block.

    Args:
        block: int32 array or tensor of `count_words` elements.
        items: B.
        steps: G.
        dtypes: the types "fp32" and "i64" of the array's library.
    """
    seeds, begins = 8 * steps, 8 * steps + _aligned(2 * items)
    lengths = begins + _aligned(2 * items)
    return Inputs(
        terms=block[: 4 * steps].view(dtypes["fp32"]).reshape(steps, 4),
        noise_steps=block[4 * steps : seeds].reshape(steps, 4),
        seeds=block[seeds : seeds + 2 * items].view(dtypes["i64"]),
        begins=block[begins : begins + 2 * items].view(dtypes["i64"]),
        lengths=block[lengths : lengths + items],
    )


def _aligned(words: int) -> int:
    return ceil_div(words, ALIGNED) * ALIGNED
