"""Atomic operations: atom and red on global and shared memory, one lane after the other."""

from __future__ import annotations

import operator

import numpy as np

from tests.gpu.ptx.arithmetic import ELEMENTS
from tests.gpu.ptx.decode import destination, full, instruction, source
from tests.gpu.ptx.errors import UnsupportedError
from tests.gpu.ptx.formats import BITS, UNSIGNED
from tests.gpu.ptx.memory import address, space

OPERATIONS = {
    "add": operator.add,
    "exch": lambda old, new: new,
    "min": np.fmin,
    "max": np.fmax,
    "and": operator.and_,
    "or": operator.or_,
    "xor": operator.xor,
    "cas": None,
}


@instruction("atom", "red")
def decode_atom(ins):
    returns = ins.name == "atom"
    name = next((p for p in ins.parts if p in OPERATIONS), None)
    if name is None or ins.kind not in ELEMENTS or any(p.startswith("v") and p[1:].isdigit() for p in ins.parts):
        raise UnsupportedError("unsupported atomic operation")
    state_space, kind, raw = space(ins.parts) or "global", ins.kind, f"b{BITS[ins.kind]}"
    operands = ins.operands[1:] if returns else ins.operands
    target, gets = address(operands[0]), [source(o, raw) for o in operands[1:]]
    put = destination(ins.operands[0], raw) if returns else None
    operation, element, size = OPERATIONS[name], ELEMENTS[kind], BITS[kind] // 8

    def run(chunk, mask):
        lanes = np.arange(chunk.lanes) if mask is None else np.flatnonzero(mask)
        addresses = target(chunk)[lanes]
        if state_space == "shared":
            addresses = chunk.shared.positions(addresses, size, chunk.cta[lanes])
            view = chunk.shared.views[size]
            if chunk.checks:
                chunk.shared.check_written(addresses, size, "atomic access")
        else:
            memory = chunk.machine.memory
            memory.check(addresses.view(np.uint64), size, "atomic access")
            if chunk.checks:
                memory.check_written(addresses, size)
            view = memory.views[size]
        values = [full(chunk, get(chunk))[lanes] for get in gets]
        old = np.zeros(chunk.lanes, UNSIGNED[8 * size])
        for i, (lane, cell) in enumerate(zip(lanes, addresses // size, strict=True)):
            before, new = view[cell : cell + 1].copy(), values[-1][i : i + 1]
            old[lane] = before[0]
            if operation is None:
                view[cell] = new[0] if before[0] == values[0][i] else before[0]
            else:
                view[cell] = element.store(operation(element.load(before), element.load(new)))[0]
        if put:
            put(chunk, old, mask)

    return run
