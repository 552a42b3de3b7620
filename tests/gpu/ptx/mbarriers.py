"""mbarriers: objects in shared memory that count arrivals and the bytes of bulk copies.

A wait whose phase is not over answers false once, so that a program without the loop around it computes nonsense. The
second time it blocks its lanes until the phase is over. Bytes of a bulk copy are in flight until a wait has returned.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from tests.gpu.ptx.clusters import owner
from tests.gpu.ptx.decode import destination, full, instruction, source
from tests.gpu.ptx.errors import BarrierError, SharedRaceError, UnsupportedError
from tests.gpu.ptx.memory import address
from tests.gpu.ptx.operands import Immediate, Sink
from tests.gpu.ptx.shared import IN_FLIGHT, WRITTEN


@dataclass
class Delivery:
    """Bytes of a bulk copy for one CTA."""

    positions: np.ndarray  # of the 16-byte pieces
    data: np.ndarray
    warp: int
    time: int


@dataclass
class MBarrier:
    """One mbarrier.

    Attributes:
        count: arrivals of a phase.
        pending: arrivals that the phase still lacks.
        creator: the warp that initialized it, and that warp's time.
        parity: the parity of the current phase.
        bytes: bytes that the phase still lacks.
        pasts: clocks of the arrivals in this phase.
        past: clocks that the last complete phase passes on to those who wait for it.
        asked: waits (warp, program counter) that were answered with false.
        waiting: blocked (warp, lanes).
        flying: copies of this phase.
        landed: copies of complete phases that no warp has waited for.
    """

    count: int
    pending: int
    creator: tuple[int, int]
    parity: int = 0
    bytes: int = 0
    pasts: list[np.ndarray] = field(default_factory=list)
    past: np.ndarray | None = None
    asked: set[tuple[int, int]] = field(default_factory=set)
    waiting: list[tuple[int, np.ndarray]] = field(default_factory=list)
    flying: list[Delivery] = field(default_factory=list)
    landed: list[Delivery] = field(default_factory=list)


def find(chunk, cta: int, place: int, warp: int | None) -> MBarrier:
    """Return an mbarrier. An access by another warp than its creator must be ordered after the initialization."""
    chunk.shared.positions(np.array([place]), 8, np.array([cta]))
    if (cta, place) not in chunk.mbarriers:
        raise BarrierError(f"no mbarrier was initialized at shared address {place:#x}")
    barrier: MBarrier = chunk.mbarriers[cta, place]
    creator, time = barrier.creator
    if chunk.checks and warp is not None and not chunk.shared.clocks.ordered(warp, creator % chunk.warps, time):
        raise SharedRaceError(
            f"warp {warp % chunk.warps} uses an mbarrier that warp {creator % chunk.warps} initialized without a "
            f"barrier between, shared address {place:#x}"
        )
    return barrier


def arrive(chunk, barrier: MBarrier, warp: int | None, arrivals: int = 0, copied: int = 0) -> None:
    """Count arrivals and copied bytes; the last of a phase ends it. Nothing is known of a warp that is None."""
    if warp is not None:
        barrier.pasts.append(chunk.shared.clocks.arrive(warp))
    barrier.pending -= arrivals
    barrier.bytes -= copied
    if barrier.pending < 0:
        raise BarrierError("more arrivals at an mbarrier than its phase expects")
    if barrier.pending or barrier.bytes:
        return
    barrier.past = np.max(barrier.pasts, 0) if barrier.pasts else None
    barrier.parity, barrier.pending, barrier.pasts = barrier.parity ^ 1, barrier.count, []
    barrier.landed, barrier.flying = barrier.landed + barrier.flying, []
    for waiting, lanes in barrier.waiting:
        see(chunk, barrier, waiting)
        chunk.waiting[lanes] = False
    barrier.waiting = []


def see(chunk, barrier: MBarrier, warp: int) -> None:
    """Let a warp pass a wait: it is ordered after the arrivals, and the copied bytes are there."""
    if barrier.past is not None:
        chunk.shared.clocks.release(np.array([warp]), barrier.past)
    for copy in barrier.landed:
        deliver(chunk, copy)
    barrier.landed = []


def deliver(chunk, copy: Delivery) -> None:
    shared = chunk.shared
    first = int(copy.positions[0])
    shared.data[first : first + len(copy.data)] = copy.data
    if chunk.checks:
        granules, _ = shared.granules(copy.positions, 16, copy.positions)
        shared.mark(copy.positions, 16, WRITTEN)
        shared.write_time[granules] = copy.time
        shared.writer[granules] = copy.warp % chunk.warps
        shared.dirty[granules] = False  # the copy and wgmma access memory by the same proxy


def fly(chunk, barrier: MBarrier, cta: int, place: int, data: np.ndarray, warp: int, own: bool) -> None:
    """Begin a bulk copy into the shared memory of a CTA. Its bytes count at the barrier at once."""
    shared = chunk.shared
    places = place + np.arange(0, len(data), 16)
    positions = shared.positions(places, 16, np.full(len(places), cta))
    if chunk.checks:
        # The order between CTAs of a cluster is not tracked: a copy from another CTA is compared with reads in flight.
        shared.check_write(positions, 16, np.full(len(places), warp)) if own else shared.check_idle(positions, 16)
        shared.mark(positions, 16, IN_FLIGHT)
    barrier.flying.append(Delivery(positions, data, warp, int(shared.clocks.now[warp])))
    arrive(chunk, barrier, warp, copied=len(data))


def lanes_of(chunk, mask) -> np.ndarray:
    return np.arange(chunk.lanes) if mask is None else np.flatnonzero(mask)


def by_warp(chunk, mask) -> Iterator[tuple[int, np.ndarray]]:
    """Yield every executing warp and its executing lanes."""
    lanes = lanes_of(chunk, mask)
    warps, starts = np.unique(chunk.warp[lanes], return_index=True)
    yield from zip(warps.tolist(), np.split(lanes, starts[1:]), strict=True)


@instruction("mbarrier")
def decode_mbarrier(ins):
    decoders = {"init": decode_init, "arrive": decode_arrive, "try_wait": decode_wait, "test_wait": decode_wait}
    if ins.parts[1] not in decoders:
        raise UnsupportedError("an mbarrier instruction of this kind")
    return decoders[ins.parts[1]](ins)


def decode_init(ins):
    place, count = address(ins.operands[0]), source(ins.operands[1], "u32")

    def run(chunk, mask):
        places, counts = place(chunk), full(chunk, count(chunk))
        for lane in lanes_of(chunk, mask):
            warp, cta = int(chunk.warp[lane]), int(chunk.cta[lane])
            chunk.shared.positions(places[lane : lane + 1], 8, chunk.cta[lane : lane + 1])
            created = warp, int(chunk.shared.clocks.now[warp])
            n = int(counts[lane])
            chunk.mbarriers[cta, int(places[lane])] = MBarrier(n, n, created)

    return run


def decode_arrive(ins):
    expects, remote = "expect_tx" in ins.parts, "shared::cluster" in ins.parts
    if not isinstance(ins.operands[0], Sink) or "noComplete" in ins.parts:
        raise UnsupportedError("the state of an mbarrier")
    place = address(ins.operands[1])
    number = source(ins.operands[2] if len(ins.operands) > 2 else Immediate("0" if expects else "1"), "u32")

    def run(chunk, mask):
        places, numbers = place(chunk), full(chunk, number(chunk))
        for lane in lanes_of(chunk, mask):
            own, warp = int(chunk.cta[lane]), int(chunk.warp[lane])
            cta, at = owner(chunk, own, int(places[lane])) if remote else (own, int(places[lane]))
            known = warp if cta == own else None
            barrier = find(chunk, cta, at, known)
            barrier.bytes += int(numbers[lane]) if expects else 0
            arrive(chunk, barrier, known, 1 if expects else int(numbers[lane]))

    return run


def decode_wait(ins):
    if "parity" not in ins.parts:
        raise UnsupportedError("a wait for the state of an mbarrier")
    put, place = destination(ins.operands[0], "pred"), address(ins.operands[1])
    parity, blocks = source(ins.operands[2], "u32"), ins.parts[1] == "try_wait"

    def run(chunk, mask):
        places, parities = place(chunk), full(chunk, parity(chunk))
        over = np.zeros(chunk.lanes, bool)
        for warp, lanes in by_warp(chunk, mask):
            if len(np.unique(places[lanes])) > 1 or len(np.unique(parities[lanes])) > 1:
                raise UnsupportedError("lanes of a warp that wait for different mbarriers or phases")
            barrier = find(chunk, int(chunk.cta[lanes[0]]), int(places[lanes[0]]), warp)
            if int(parities[lanes[0]]) > 1:
                raise BarrierError("a parity other than 0 and 1")
            if barrier.parity != int(parities[lanes[0]]):
                see(chunk, barrier, warp)
            elif blocks and (warp, chunk.pc) in barrier.asked:
                barrier.asked.remove((warp, chunk.pc))
                barrier.waiting.append((warp, lanes))
                chunk.waiting[lanes] = True
            else:
                barrier.asked.add((warp, chunk.pc))
                continue
            over[lanes] = True
        put(chunk, over, mask)

    return run
