"""cp.async.bulk: a copy from global into shared memory by one thread, which an mbarrier counts."""

from __future__ import annotations

import numpy as np

from tests.gpu.ptx.clusters import owner
from tests.gpu.ptx.decode import full, source
from tests.gpu.ptx.errors import MisalignedError, UnsupportedError
from tests.gpu.ptx.mbarriers import find, fly, lanes_of
from tests.gpu.ptx.memory import address

FORM = ("shared::cluster", "global", "mbarrier::complete_tx::bytes")


def bulk_copy(ins):
    """Return the handler of a bulk copy, with or without multicast to the CTAs of a cluster."""
    multicast = ins.parts[6:] == ("multicast::cluster",)
    if ins.parts[3:6] != FORM or (ins.parts[6:] and not multicast):
        raise UnsupportedError("a bulk copy of this kind")
    target, origin, size, barrier = (
        address(ins.operands[0]),
        address(ins.operands[1]),
        source(ins.operands[2], "u32"),
        address(ins.operands[3]),
    )
    ranks = source(ins.operands[4], "u16") if multicast else None

    def run(chunk, mask):
        targets, origins, sizes, barriers = target(chunk), origin(chunk), full(chunk, size(chunk)), barrier(chunk)
        masks = full(chunk, ranks(chunk)) if ranks else None
        for lane in lanes_of(chunk, mask):
            own, warp, count = int(chunk.cta[lane]), int(chunk.warp[lane]), int(sizes[lane])
            begin = int(origins[lane])
            if count % 16 or not count:
                raise MisalignedError(f"a bulk copy of {count} bytes")
            read(chunk, begin, count, lane)
            data = chunk.machine.memory.data[begin : begin + count].copy()
            cta, place = owner(chunk, own, int(targets[lane]))
            _, counter = owner(chunk, own, int(barriers[lane]))
            first = own - own % chunk.cluster
            receivers = [cta]
            if masks is not None:
                receivers = [first + rank for rank in range(chunk.cluster) if int(masks[lane]) >> rank & 1]
            for receiver in receivers:
                writer = warp + (receiver - own) * chunk.warps  # its namesake in the other CTA
                known = warp if receiver == own else None
                fly(chunk, find(chunk, receiver, counter, known), receiver, place, data, writer, receiver == own)

    return run


def read(chunk, begin: int, count: int, lane: int) -> None:
    """Check the read of global memory, in pieces of 16 bytes."""
    addresses = np.uint64(begin) + np.arange(0, count, 16, dtype=np.uint64)
    if chunk.checks:
        chunk.machine.memory.before_read(addresses, 16, np.full(len(addresses), chunk.cta_number[lane]))
    else:
        chunk.machine.memory.check(addresses, 16, "read")
    if chunk.counters is not None:
        chunk.counters.globals(chunk, "copy", addresses.view(np.int64), np.full(len(addresses), lane), 16)
