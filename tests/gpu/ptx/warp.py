"""Communication between the lanes of a warp: shfl, vote, activemask, elect, redux."""

from __future__ import annotations

import numpy as np

from tests.gpu.ptx.decode import destination, full, instruction, items, predicate, source
from tests.gpu.ptx.errors import DivergedError, UnsupportedError

LANES = np.arange(32)


def table(chunk, values: np.ndarray) -> np.ndarray:
    """Reshape values to [warp, lane]."""
    return full(chunk, values).reshape(-1, 32)


def executing(chunk, mask: np.ndarray | None, members: np.ndarray) -> np.ndarray:
    """Return [warp, lane]: the lanes that take part. All lanes of the member mask must execute the instruction."""
    active = np.ones((chunk.lanes // 32, 32), bool) if mask is None else mask.reshape(-1, 32)
    named = (table(chunk, members) >> LANES.astype(np.uint32)) & np.uint32(1) == 1
    # A lane of the mask may have ended.
    missing = named & ~active & active.any(1)[:, None] & chunk.alive.reshape(-1, 32)
    if missing.any():
        raise DivergedError("a lane of the member mask does not execute the instruction")
    return active & named


@instruction("shfl")
def decode_shfl(ins):
    mode = ins.parts[2]
    targets = items(ins.operands[0])
    value, place, bound, members = (source(o, "b32") for o in ins.operands[1:5])
    put = destination(targets[0], "b32")
    put_valid = destination(targets[1], "pred") if len(targets) > 1 else None

    def run(chunk, mask):
        active = executing(chunk, mask, members(chunk))
        b, c = table(chunk, place(chunk)).astype(np.int64), table(chunk, bound(chunk)).astype(np.int64)
        segment, clamp = (c >> 8) & 31, c & 31
        last = (LANES & segment) | (clamp & ~segment)
        b = b & 31
        if mode == "idx":
            origin = (LANES & segment) | (b & ~segment)
        else:
            origin = {"up": LANES - b, "down": LANES + b, "bfly": LANES ^ b}[mode]
        valid = origin >= last if mode == "up" else origin <= last
        origin = np.where(valid, origin, LANES)
        if not np.take_along_axis(active, origin, 1)[active].all():
            raise DivergedError("a lane reads from a lane that does not execute the instruction")
        put(chunk, np.take_along_axis(table(chunk, value(chunk)), origin, 1).ravel(), mask)
        if put_valid:
            put_valid(chunk, valid.ravel(), mask)

    return run


@instruction("vote")
def decode_vote(ins):
    mode = ins.parts[2]
    get, members = predicate(ins.operands[1]), source(ins.operands[2], "b32")
    put = destination(ins.operands[0], "b32" if mode == "ballot" else "pred")

    def run(chunk, mask):
        active, votes = executing(chunk, mask, members(chunk)), table(chunk, get(chunk))
        yes, no = (votes & active), (~votes & active)
        if mode == "ballot":
            result = (yes.astype(np.uint32) << LANES.astype(np.uint32)).sum(1, dtype=np.uint32)
        elif mode == "uni":
            result = ~(yes.any(1) & no.any(1))
        else:
            result = yes.any(1) if mode == "any" else ~no.any(1)
        put(chunk, np.repeat(result, 32), mask)

    return run


@instruction("activemask")
def decode_activemask(ins):
    put = destination(ins.operands[0], "b32")

    def run(chunk, mask):
        active = np.ones((chunk.lanes // 32, 32), np.uint32) if mask is None else mask.reshape(-1, 32).astype(np.uint32)
        put(chunk, np.repeat((active << LANES.astype(np.uint32)).sum(1, dtype=np.uint32), 32), mask)

    return run


@instruction("elect")
def decode_elect(ins):
    """Return a handler that elects the lowest lane of the member mask."""
    targets, members = items(ins.operands[0]), source(ins.operands[1], "b32")
    put_leader, put = destination(targets[0], "b32"), destination(targets[1], "pred")

    def run(chunk, mask):
        leader = executing(chunk, mask, members(chunk)).argmax(1)
        put_leader(chunk, np.repeat(leader, 32).astype(np.uint32), mask)
        put(chunk, np.repeat(leader, 32) == chunk.lane, mask)

    return run


REDUCTIONS = {"add": np.add, "min": np.minimum, "max": np.maximum, "and": np.bitwise_and, "or": np.bitwise_or}
REDUCTIONS |= {"xor": np.bitwise_xor}


@instruction("redux")
def decode_redux(ins):
    function, kind = REDUCTIONS[ins.parts[2]], ins.kind
    if kind == "f32":
        raise UnsupportedError("redux of floats")
    get, members, put = (
        source(ins.operands[1], kind),
        source(ins.operands[2], "b32"),
        destination(ins.operands[0], kind),
    )

    def run(chunk, mask):
        active, values = executing(chunk, mask, members(chunk)), table(chunk, get(chunk))
        result = np.zeros(len(values), values.dtype)
        for warp in np.flatnonzero(active.any(1)):
            result[warp] = function.reduce(values[warp][active[warp]])
        put(chunk, np.repeat(result, 32), mask)

    return run
