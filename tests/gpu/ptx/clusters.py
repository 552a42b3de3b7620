"""Clusters of CTAs: shared memory of the other CTAs, and barriers of a whole cluster.

CTAs of a cluster execute in the same chunk, next to each other in the order of their ranks. The order between accesses
of two CTAs is not tracked.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product

import numpy as np

from tests.gpu.ptx.decode import destination, full, instruction, source
from tests.gpu.ptx.errors import BarrierError, OutOfBoundsError, UnsupportedError

RANK_SHIFT = 24  # an address in shared::cluster is a CTA's own address, plus (rank + 1) << 24 for another CTA's


def arrange(grid: tuple[int, int, int], cluster: tuple[int, int, int]) -> np.ndarray:
    """Return the numbers of all CTAs of a grid, cluster after cluster, by rank.

    Raises:
        ValueError: the clusters do not divide the grid.
    """
    if any(size % part for size, part in zip(grid, cluster, strict=True)):
        raise ValueError(f"expected a grid of whole clusters {cluster}, got {grid}")
    numbers = np.arange(np.prod(grid)).reshape(grid[::-1])
    z, y, x = cluster[::-1]
    corners = product(*(range(0, size, part) for size, part in zip(grid[::-1], (z, y, x), strict=True)))
    return np.concatenate([numbers[k : k + z, j : j + y, i : i + x].ravel() for k, j, i in corners])


def owner(chunk, cta: int, address: int) -> tuple[int, int]:
    """Return the CTA of the chunk that owns an address in shared::cluster, and the address in its shared memory."""
    rank, own = divmod(address, 1 << RANK_SHIFT)
    if not rank:
        return cta, address
    if rank > chunk.cluster:
        raise OutOfBoundsError(f"an address of CTA {rank - 1} in a cluster of {chunk.cluster}")
    return cta - cta % chunk.cluster + rank - 1, own


@instruction("mapa")
def decode_mapa(ins):
    if "shared::cluster" not in ins.parts:
        raise UnsupportedError("mapa of generic addresses")
    kind = ins.kind
    put = destination(ins.operands[0], kind)
    address, rank = source(ins.operands[1], kind), source(ins.operands[2], "u32")

    def run(chunk, mask):
        ranks = full(chunk, rank(chunk))
        if int(ranks[lanes(chunk, mask)].max()) >= chunk.cluster:
            raise OutOfBoundsError(f"a rank outside a cluster of {chunk.cluster}")
        own = full(chunk, address(chunk))
        put(chunk, own + ((ranks + np.uint32(1)).astype(own.dtype) << own.dtype.type(RANK_SHIFT)), mask)

    return run


def lanes(chunk, mask) -> np.ndarray | slice:
    return slice(None) if mask is None else mask


@dataclass
class ClusterBarrier:
    """The barrier of one cluster."""

    arrived: set[int] = field(default_factory=set)  # lanes of the current phase
    phase: int = 0
    targets: dict[int, int] = field(default_factory=dict)  # lane: the phase after its last arrival
    pasts: dict[int, list[np.ndarray]] = field(default_factory=dict)  # by CTA
    waiting: list[int] = field(default_factory=list)
    past: dict[int, np.ndarray] = field(default_factory=dict)


def cluster_barrier(ins):
    """Return the handler of barrier.cluster. All threads of the cluster that have not ended take part."""
    if ins.parts[2] not in ("arrive", "wait"):
        raise UnsupportedError("a barrier of a cluster of this kind")
    return arrive if ins.parts[2] == "arrive" else wait


def arrive(chunk, mask) -> None:
    executing = np.arange(chunk.lanes) if mask is None else np.flatnonzero(mask)
    clusters = chunk.cta[executing] // chunk.cluster
    for number in np.unique(clusters).tolist():
        state = chunk.cluster_barriers.setdefault(number, ClusterBarrier())
        mine = executing[clusters == number]
        state.arrived.update(mine.tolist())
        state.targets.update(dict.fromkeys(mine.tolist(), state.phase + 1))
        for warp in np.unique(chunk.warp[mine]).tolist():
            state.pasts.setdefault(warp // chunk.warps, []).append(chunk.shared.clocks.arrive(warp))
        everyone = np.flatnonzero(chunk.alive & (chunk.cta // chunk.cluster == number))
        if state.arrived.issuperset(everyone.tolist()):
            state.past = {cta: np.max(pasts, 0) for cta, pasts in state.pasts.items()}
            state.phase, state.arrived, state.pasts = state.phase + 1, set(), {}
            released = np.array(state.waiting, dtype=int)
            state.waiting = []
            release(chunk, state, released)
            chunk.waiting[released] = False


def wait(chunk, mask) -> None:
    executing = np.arange(chunk.lanes) if mask is None else np.flatnonzero(mask)
    clusters = chunk.cta[executing] // chunk.cluster
    for number in np.unique(clusters).tolist():
        state = chunk.cluster_barriers.setdefault(number, ClusterBarrier())
        mine = executing[clusters == number]
        if not state.targets.keys() >= set(mine.tolist()):
            raise BarrierError("a thread waits at the barrier of its cluster before it has arrived")
        over = np.array([state.targets[lane] <= state.phase for lane in mine.tolist()])
        release(chunk, state, mine[over])
        state.waiting += mine[~over].tolist()
        chunk.waiting[mine[~over]] = True


def release(chunk, state: ClusterBarrier, executing: np.ndarray) -> None:
    for warp in np.unique(chunk.warp[executing]).tolist():
        chunk.shared.clocks.release(np.array([warp]), state.past[warp // chunk.warps])


@instruction("setmaxnreg")
def decode_setmaxnreg(ins):
    """Check that whole warpgroups execute it; registers are not counted."""

    def run(chunk, mask):
        chunk.whole_warps(mask, 128)

    return run
