"""Asynchronous copies: the data of cp.async arrive only when a wait retires the group of the issuing thread.

After the wait other warps need a barrier, as after any store. Without the wait reading the bytes is an error.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tests.gpu.ptx.bulk import bulk_copy
from tests.gpu.ptx.decode import full, instruction, predicate, source
from tests.gpu.ptx.errors import UnsupportedError
from tests.gpu.ptx.memory import address
from tests.gpu.ptx.operands import Immediate, Negated, Register
from tests.gpu.ptx.shared import IN_FLIGHT, WRITTEN


class Copy(NamedTuple):
    """Copies of one instruction that have not arrived."""

    lanes: np.ndarray
    positions: np.ndarray
    data: np.ndarray
    group: np.ndarray  # the number of groups that each lane had committed before


class AsyncCopies:
    """Copies in flight of the threads of a chunk."""

    def __init__(self, chunk) -> None:
        self.chunk = chunk
        self.committed = np.zeros(chunk.lanes, np.int64)
        self.flying: list[Copy] = []

    def issue(self, lanes: np.ndarray, positions: np.ndarray, data: np.ndarray) -> None:
        shared, size = self.chunk.shared, data.shape[1]
        if shared.checks:
            shared.check_write(positions, size, self.chunk.warp[lanes])
            shared.mark(positions, size, IN_FLIGHT)
        self.flying.append(Copy(lanes, positions, data, self.committed[lanes]))

    def commit(self, mask: np.ndarray | None) -> None:
        self.committed[self.chunk.rows(mask)] += 1

    def wait(self, pending: int, mask: np.ndarray | None) -> None:
        """Deliver all groups of each thread but its last ``pending`` ones."""
        kept = []
        for copy in self.flying:
            done = copy.group < self.committed[copy.lanes] - pending
            if mask is not None:
                done &= mask[copy.lanes]
            if done.any():
                self.arrive(Copy(*(part[done] for part in copy)))
            if not done.all():
                kept.append(Copy(*(part[~done] for part in copy)))
        self.flying = kept

    def arrive(self, copy: Copy) -> None:
        shared, size = self.chunk.shared, copy.data.shape[1]
        width = min(size, 8)
        shared.put(copy.positions, list(np.ascontiguousarray(copy.data).view(shared.views[width].dtype).T))
        if shared.checks:
            shared.mark(copy.positions, size, WRITTEN)
            granules, warps = shared.granules(copy.positions, size, self.chunk.warp[copy.lanes])
            shared.stamp_write(granules, warps)
            shared.dirty[granules] = self.chunk.launch.fenced_copies


@instruction("cp")
def decode_cp(ins):
    if ins.parts[1:3] == ("async", "commit_group"):
        return lambda chunk, mask: chunk.copies.commit(mask)
    if ins.parts[1:3] == ("async", "wait_group"):
        pending = int(ins.operands[0].text, 0)
        return lambda chunk, mask: chunk.copies.wait(pending, mask)
    if ins.parts[1:3] == ("async", "wait_all"):
        return wait_all
    if ins.parts[1:3] == ("async", "bulk"):
        return bulk_copy(ins)
    if ins.parts[1:3] not in (("async", "ca"), ("async", "cg")):
        raise UnsupportedError("cp.async of this kind")
    return copy_handler(ins)


def wait_all(chunk, mask):
    chunk.copies.commit(mask)
    chunk.copies.wait(0, mask)


def copy_handler(ins):
    target, origin = address(ins.operands[0]), address(ins.operands[1])
    size = int(ins.operands[2].text, 0)
    amount = bytes_to_copy(ins, size)

    def run(chunk, mask):
        lanes = np.arange(chunk.lanes) if mask is None else np.flatnonzero(mask)
        counts = full(chunk, amount(chunk))[lanes].astype(np.int64)
        positions = chunk.shared.positions(target(chunk)[lanes], size, chunk.cta[lanes])
        memory, reads = chunk.machine.memory, counts > 0
        addresses = origin(chunk)[lanes][reads]
        if chunk.counters is not None:
            chunk.counters.globals(chunk, "copy", addresses, lanes[reads], size)
        # A copy of fewer bytes than ``size`` reads fewer bytes; here all of ``size`` must lie in one buffer.
        if chunk.checks and (counts[reads] == size).all():
            memory.before_read(addresses.view(np.uint64), size, chunk.cta_number[lanes][reads])
        else:
            memory.check(addresses.view(np.uint64), size, "read")
        data = np.zeros((len(lanes), size), np.uint8)
        width = min(size, 8)
        words = data.view(memory.views[width].dtype)
        for i in range(size // width):
            words[reads, i] = memory.views[width].take(addresses // width + i)
        data[np.arange(size) >= counts[:, None]] = 0
        chunk.copies.issue(lanes, positions, data)

    return run


def bytes_to_copy(ins, size: int):
    """Return a function that computes how many bytes to copy; the rest becomes 0.

    The operand is a byte count, or a predicate that disables the copy.
    """
    extra = ins.operands[3:-1] if "L2::cache_hint" in ins.parts else ins.operands[3:]
    if not extra:
        return source(Immediate(str(size)), "u32")
    if isinstance(extra[0], (Negated, Register)) and getattr(extra[0], "bits", 1) == 1:
        ignore = predicate(extra[0])
        return lambda chunk: np.where(ignore(chunk), 0, size)
    count = source(extra[0], "u32")
    return lambda chunk: np.minimum(count(chunk), size)
