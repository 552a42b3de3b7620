"""Counters of a launch in the units of a hardware profiler, per warp.

Pass a `Counters` to `Machine.launch`; several launches add up. Predicated-off warps count too, because they issue.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tests.gpu.ptx.parse import Instruction

CLASSES = {
    "mma": ("mma", "wgmma"),
    "ldmatrix": ("ldmatrix", "stmatrix"),
    "mufu": ("ex2", "lg2", "sin", "cos", "tanh", "rcp", "rsqrt", "sqrt", "div"),
    "memory": ("ld", "st", "atom", "red", "cp"),
    "convert": ("cvt",),
    "shuffle": ("shfl", "vote", "redux", "elect", "activemask"),
    "barrier": ("bar", "barrier", "membar", "fence"),
    "branch": ("bra", "ret", "exit"),
    "move": ("mov",),
}
CLASS_OF = {name: group for group, names in CLASSES.items() for name in names}
FLOATS = ("f16", "bf16", "f32", "f64", "f16x2", "bf16x2", "f32x2")
FLOAT_OPERATIONS = ("add", "sub", "mul", "fma", "mad", "min", "max")


@dataclass
class Traffic:
    """Traffic of one kind of memory access."""

    requests: int = 0  # per warp
    bytes: int = 0  # requested by lanes
    units: int = 0  # 32-byte sectors of global memory, or wavefronts of shared memory, one per cycle


@dataclass
class Counters:
    """Instructions and memory traffic of one or more launches."""

    launches: int = 0
    instructions: int = 0  # issued by warps
    classes: Counter[str] = field(default_factory=Counter)
    names: Counter[str] = field(default_factory=Counter)
    global_memory: dict[str, Traffic] = field(default_factory=dict)  # "load", "store", "copy" (cp.async)
    shared_memory: dict[str, Traffic] = field(default_factory=dict)  # "load", "store", "ldmatrix", "stmatrix"

    def instruction(self, chunk: Any, ins: Instruction, mask: np.ndarray | None) -> None:
        warps = chunk.lanes // 32 if mask is None else int(mask.reshape(-1, 32).any(1).sum())
        self.instructions += warps
        self.names[ins.name] += warps
        is_float = ins.name in FLOAT_OPERATIONS and ins.kind in FLOATS
        self.classes["float" if is_float else CLASS_OF.get(ins.name, "integer")] += warps

    def globals(self, chunk: Any, access: str, addresses: np.ndarray, lanes: Any, size: int) -> None:
        warps = chunk.warp[lanes]
        traffic = self.global_memory.setdefault(access, Traffic())
        traffic.requests += len(np.unique(warps))
        traffic.bytes += size * len(addresses)
        traffic.units += len(np.unique((warps << 48) + addresses // 32))

    def shared(self, chunk: Any, access: str, addresses: np.ndarray, lanes: Any, size: int) -> None:
        warps = chunk.warp[lanes]
        traffic = self.shared_memory.setdefault(access, Traffic())
        traffic.requests += len(np.unique(warps))
        traffic.bytes += size * len(addresses)
        traffic.units += wavefronts(addresses, warps, chunk.lane[lanes], size)


def wavefronts(addresses: np.ndarray, warps: np.ndarray, lanes: np.ndarray, size: int) -> int:
    """Count the wavefronts of accesses to shared memory.

    Wide accesses transfer 128 bytes at a time. The bank with the most distinct words determines the count of each part.
    """
    if not len(addresses):
        return 0
    words = max(1, size // 4)
    part = warps * 8 + lanes * words // 32
    word = (addresses // 4)[:, None] + np.arange(words)
    distinct = np.unique((np.repeat(part, words) << 32) + word.ravel())
    banks, conflicts = np.unique((distinct >> 32 << 5) + distinct % 32, return_counts=True)
    worst = np.zeros(int(part.max()) + 1, np.int64)
    np.maximum.at(worst, banks >> 5, conflicts)
    return int(worst.sum())
