"""What passes between the host and a plan in every call, without waits: small inputs there, a mel's bounds back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.checks.arrays import FloatArray
from engine.kernels.inputs import Inputs, count_words, split_block

if TYPE_CHECKING:
    from engine.kernels.launch import Device, Mark

BLOCKS = 4  # calls whose inputs may be on their way to the device at once
DTYPES = {"fp32": np.dtype(np.float32), "i64": np.dtype(np.int64)}


@dataclass(frozen=True)
class Rows:
    """The items in the rows of a plan.

    Attributes:
        seeds: one per item, 0 to 2**64 - 1.
        begins: the sample of the item that lies at the row's first place.
        lengths: samples.
    """

    seeds: Sequence[int]
    begins: Sequence[int]
    lengths: Sequence[int]


@dataclass(frozen=True, eq=False)
class _Block:
    """A block of page-locked memory, its parts as arrays, and a mark behind its last copy."""

    memory: Any
    parts: Inputs
    copied: Mark


class Ring:
    """Blocks of page-locked memory that take turns: a call writes while the blocks of earlier ones are still read."""

    def __init__(self, device: Device, target: Any, items: int, steps: int) -> None:
        """Allocate the blocks.

        Args:
            device: the device.
            target: the block on the device (`engine.kernels.gpu.Buffers`).
            items: B.
            steps: G.
        """
        self._target = target
        self._blocks = []
        self._turn = 0
        for _ in range(BLOCKS):
            memory = device.pinned((count_words(items, steps),), "i32")
            array = memory.numpy()
            array.fill(0)
            self._blocks.append(_Block(memory, split_block(array, items, steps, DTYPES), device.event()))

    def send(self, rows: Rows, terms: FloatArray, first: int) -> None:
        """Enqueue the copy of a call's inputs to the device.

        Args:
            rows: the items; the other rows of the plan get the length 0.
            terms: [s,4] of the next steps, see `Inputs`.
            first: the number of the first of them in its schedule.
        """
        block, count, steps = self._blocks[self._turn], len(rows.lengths), len(terms)
        self._turn = (self._turn + 1) % BLOCKS
        if not block.copied.query():
            block.copied.synchronize()
        parts = block.parts
        parts.terms[:steps] = terms
        parts.noise_steps[:steps] = np.arange(first + 1, first + 1 + steps)[:, None]
        parts.seeds.view(np.uint64)[:count] = rows.seeds
        parts.begins[:count] = rows.begins
        parts.lengths[:count] = rows.lengths
        parts.lengths[count:] = 0
        self._target.copy_(block.memory, non_blocking=True)
        block.copied.record()


class BoundsReader:
    """Reads the smallest and the largest value of a mel; the device works on while the host waits for them."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._found = device.empty((2,), "fp32")
        self._low, self._high = self._found[0], self._found[1]
        self._memory = device.pinned((2,), "fp32")
        self._bounds = self._memory.numpy()
        self._copied = device.event()

    def request(self, mel: Any) -> None:
        """Enqueue the search for the bounds of a tensor of the device."""
        self._device.extremes(mel, self._low, self._high)
        self._memory.copy_(self._found, non_blocking=True)
        self._copied.record()

    def wait(self) -> tuple[float, float]:
        """Wait for the bounds of the last request and return them; NaN if the mel holds one."""
        self._copied.synchronize()
        low, high = self._bounds.tolist()
        return low, high
