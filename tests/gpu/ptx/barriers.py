"""Barriers, with numbers and counts of threads, and fences. Most fences have no effect on lockstep execution."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from tests.gpu.ptx.clusters import cluster_barrier
from tests.gpu.ptx.decode import full, instruction, source
from tests.gpu.ptx.errors import BarrierError, UnsupportedError
from tests.gpu.ptx.operands import Immediate


@dataclass
class Incomplete:
    """A barrier of one CTA at which some of the expected warps have arrived."""

    expected: int
    places: set[int] = field(default_factory=set)
    pasts: list[np.ndarray] = field(default_factory=list)  # one per warp that has arrived
    waiting: list[int] = field(default_factory=list)


@instruction("bar", "barrier")
def decode_bar(ins):
    parts = [p for p in ins.parts if p not in ("cta", "aligned")]
    if parts[1] == "cluster":
        return cluster_barrier(ins)
    if parts[1] == "warp":
        return lambda chunk, mask: None
    if parts[1] not in ("sync", "arrive"):
        raise UnsupportedError("a barrier of this kind")
    waits = parts[1] == "sync"
    number, count = (
        source(ins.operands[0], "u32"),
        source(ins.operands[1] if len(ins.operands) > 1 else Immediate("0"), "u32"),
    )
    plain = waits and isinstance(ins.operands[0], Immediate) and len(ins.operands) == 1

    def run(chunk, mask):
        if plain and mask is None and not chunk.arrived:
            chunk.shared.clocks.join_all()
            return
        table = (np.ones(chunk.lanes, bool) if mask is None else mask).reshape(-1, 32)
        numbers, counts = full(chunk, number(chunk)), full(chunk, count(chunk))
        for warp in np.flatnonzero(table.any(1)):
            if not table[warp].all():
                raise BarrierError("part of a warp arrives at a barrier")
            arrive(chunk, int(warp), int(numbers[32 * warp]), int(counts[32 * warp]), waits)

    return run


def arrive(chunk, warp: int, number: int, count: int, waits: bool) -> None:
    cta = warp // chunk.warps
    expected = count or 32 * chunk.warps
    barrier = chunk.arrived.setdefault((cta, number), Incomplete(expected))
    if number > 15 or expected % 32 or expected > 32 * chunk.warps or expected != barrier.expected:
        raise BarrierError(f"barrier {number} of {expected} threads")
    barrier.places.add(chunk.pc)
    if not count and len(barrier.places) > 1:
        # The hardware would match them by count. In a program it means that a branch divides the CTA.
        raise BarrierError("threads of one CTA wait at different barriers")
    barrier.pasts.append(chunk.shared.clocks.arrive(warp))
    if waits:
        barrier.waiting.append(warp)
        chunk.waiting[32 * warp : 32 * warp + 32] = True
    if 32 * len(barrier.pasts) == expected:
        del chunk.arrived[cta, number]
        chunk.shared.clocks.release(np.array(barrier.waiting, dtype=int), np.max(barrier.pasts, 0))
        for other in barrier.waiting:
            chunk.waiting[32 * other : 32 * other + 32] = False


@instruction("fence")
def decode_fence(ins):
    if ins.parts[1:3] == ("proxy", "async"):
        return lambda chunk, mask: chunk.shared.fence(np.unique(chunk.warp[chunk.rows(mask)]))
    return lambda chunk, mask: None


@instruction("membar", "griddepcontrol", "nanosleep", "pmevent")
def decode_nothing(ins):
    return lambda chunk, mask: None
