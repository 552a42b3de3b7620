"""ld and st, in every state space, and the global memory of a machine."""

from __future__ import annotations

import numpy as np

from tests.gpu.ptx.decode import destination, full, instruction, items, source
from tests.gpu.ptx.errors import (
    GlobalRaceError,
    MisalignedError,
    OutOfBoundsError,
    UnsupportedError,
    UnwrittenError,
    WriteConflictError,
)
from tests.gpu.ptx.formats import BITS, UNSIGNED
from tests.gpu.ptx.operands import Address, Immediate, Register, Symbol

ALLOWED, WRITTEN = 1, 3  # of a byte
# Generic addresses of shared and local memory: windows that no machine's global memory reaches.
WINDOWS = {"shared": 1 << 40, "local": 1 << 41}


class GlobalMemory:
    """Bytes, which of them exist and were written, and which CTA touched them in this launch."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.data = np.full(size, 0xFF, np.uint8)
        self.views = {bits // 8: self.data.view(kind) for bits, kind in UNSIGNED.items()}
        self.state = np.zeros(size, np.uint8)
        self.states = {bits // 8: self.state.view(kind) for bits, kind in UNSIGNED.items()}
        # Stamps grow with every launch, so those of earlier launches need no clearing.
        self.first = self.next = 1
        self.stamps: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def allow(self, start: int, size: int) -> None:
        self.state[start : start + size] = ALLOWED

    def mark(self, where: slice) -> None:
        self.state[where] = WRITTEN

    def begin(self, ctas: int, granule: int) -> None:
        """A launch. Its CTA c stamps ``first + c``; ``first + ctas`` stands for several readers."""
        self.first, self.several, self.next = self.next, self.next + ctas, self.next + ctas + 1
        if granule not in self.stamps:
            self.stamps[granule] = (np.zeros(self.size // granule, np.int32), np.zeros(self.size // granule, np.int32))
        self.writers, self.readers = self.stamps[granule]
        self.granule = granule

    def check(self, address: np.ndarray, size: int, what: str) -> None:
        """``address`` is unsigned: a negative one is far outside."""
        if address.size == 0:
            return
        step = min(size, 16)  # vectors of 32 bytes exist, aligned as pairs
        if (address & np.uint64(size - 1)).any():
            raise MisalignedError(f"global address {int(address[(address & np.uint64(size - 1)) != 0][0]):#x}")
        wrong = address > np.uint64(self.size - size)
        if not wrong.any():
            at = address.view(np.int64)
            for offset in range(0, size, step):
                wrong |= (self.state.take(at + offset) & self.state.take(at + offset + step - 1)) == 0
        if wrong.any():
            raise OutOfBoundsError(f"{what} of {size} bytes at global address {int(address[wrong][0]):#x}")

    def granules(self, address: np.ndarray, size: int, cta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        count = max(1, size // self.granule)
        stamps = (cta + self.first).astype(np.int32)
        if count == 1:
            return address // self.granule, stamps
        return ((address // self.granule)[:, None] + np.arange(count)).ravel(), np.repeat(stamps, count)

    def check_written(self, at: np.ndarray, size: int) -> None:
        width = min(size, 8)
        for offset in range(0, size, width):
            state = self.states[width].take((at + offset) // width).view(np.uint8)
            if state.size and int(state.min()) != WRITTEN:
                place = int((at + offset).repeat(width)[state != WRITTEN][0])
                raise UnwrittenError(f"read of global memory that nobody wrote, at or after {place:#x}")

    def before_read(self, address: np.ndarray, size: int, cta: np.ndarray) -> None:
        self.check(address, size, "read")
        at = address.view(np.int64)
        self.check_written(at, size)
        granules, stamps = self.granules(at, size, cta)
        self.only_own(self.writers, granules, stamps, "reads", "wrote")
        seen = self.readers.take(granules)
        new = np.where((seen >= self.first) & (seen != stamps), np.int32(self.several), stamps)
        self.readers[granules] = new
        several = self.readers.take(granules) != new  # CTAs that read it in the same instruction
        if several.any():
            self.readers[granules[several]] = self.several

    def before_write(self, address: np.ndarray, size: int, cta: np.ndarray) -> None:
        self.check(address, size, "write")
        granules, stamps = self.granules(address.view(np.int64), size, cta)
        self.only_own(self.writers, granules, stamps, "writes", "wrote")
        self.only_own(self.readers, granules, stamps, "writes", "read")
        self.writers[granules] = stamps
        self.only_own(self.writers, granules, stamps, "writes", "wrote")

    def only_own(self, table: np.ndarray, granules: np.ndarray, stamps: np.ndarray, does: str, did: str) -> None:
        found = table.take(granules)
        wrong = (found >= self.first) & (found != stamps)
        if wrong.any():
            i = np.flatnonzero(wrong)[0]
            other = "several CTAs" if found[i] == self.several else f"CTA {int(found[i]) - self.first}"
            raise GlobalRaceError(
                f"CTA {int(stamps[i]) - self.first} {does} what {other} {did} in the same launch, "
                f"global address {int(granules[i]) * self.granule:#x}"
            )

    def mark_lanes(self, at: np.ndarray, size: int) -> None:
        width = min(size, 8)
        for offset in range(0, size, width):
            self.states[width][(at + offset) // width] = int.from_bytes(bytes([WRITTEN]) * width, "little")


def space(parts: tuple[str, ...]) -> str:
    """The state space that an instruction names, "" for the generic one."""
    return next(
        (p.split("::")[0] for p in parts if p.split("::")[0] in ("global", "shared", "local", "param", "const")), ""
    )


def address(operand: Address):
    """A function from the chunk to every lane's address, int64."""
    base = operand.base
    kind = "u32" if isinstance(base, Register) and base.bits == 32 else "u64"
    value, offset = source(base, kind), operand.offset
    return lambda chunk: full(
        chunk, value(chunk).astype(np.int64) + offset if offset else value(chunk).astype(np.int64)
    )


def generic(chunk, at: np.ndarray) -> tuple[str, np.ndarray]:
    """The space that generic addresses point to, and the addresses in it."""
    for name, start in WINDOWS.items():
        inside = (at >= start) & (at < 2 * start)
        if inside.any():
            if not inside.all():
                raise UnsupportedError("generic addresses of several state spaces in one instruction")
            return name, at - start
    return "global", at


def load(chunk, where: str, at: np.ndarray, lanes, width: int, count: int) -> list[np.ndarray]:
    """``count`` values of ``width`` bytes from every lane's address, unsigned, for the lanes given as an index."""
    size = width * count
    if where == "":
        where, at = generic(chunk, at)
    if where == "shared":
        if chunk.counters is not None:
            chunk.counters.shared(chunk, "load", at, lanes, size)
        at = chunk.shared.positions(at, size, chunk.cta[lanes])
        chunk.shared.read(at, size, chunk.warp[lanes])
        view = chunk.shared.views[width]
    elif where == "local":
        if at.size and (int(at.min()) < 0 or int(at.max()) + size > chunk.launch.layout.local):
            raise OutOfBoundsError("a local address outside the thread's memory")
        at = at + np.arange(chunk.lanes)[lanes] * chunk.launch.layout.local
        view = chunk.local_views[width]
    else:
        if chunk.counters is not None:
            chunk.counters.globals(chunk, "load", at, lanes, size)
        memory = chunk.machine.memory
        if chunk.checks:
            memory.before_read(at.view(np.uint64), size, chunk.cta_number[lanes])
        else:
            memory.check(at.view(np.uint64), size, "read")
        view = memory.views[width]
    at = at // width
    return [view.take(at + i) for i in range(count)]


def store(chunk, where: str, at: np.ndarray, lanes, values: list[np.ndarray]) -> None:
    width = values[0].dtype.itemsize
    size = width * len(values)
    if where == "":
        where, at = generic(chunk, at)
    if where == "shared":
        if chunk.counters is not None:
            chunk.counters.shared(chunk, "store", at, lanes, size)
        chunk.shared.write(chunk.shared.positions(at, size, chunk.cta[lanes]), values, chunk.warp[lanes])
        return
    if where == "local":
        if at.size and (int(at.min()) < 0 or int(at.max()) + size > chunk.launch.layout.local):
            raise OutOfBoundsError("a local address outside the thread's memory")
        at = at + np.arange(chunk.lanes)[lanes] * chunk.launch.layout.local
        view = chunk.local_views[width]
    else:
        if chunk.counters is not None:
            chunk.counters.globals(chunk, "store", at, lanes, size)
        memory = chunk.machine.memory
        if chunk.checks:
            memory.before_write(at.view(np.uint64), size, chunk.cta_number[lanes])
        else:
            memory.check(at.view(np.uint64), size, "write")
        memory.mark_lanes(at, size)
        view = memory.views[width]
    at = at // width
    for i, value in enumerate(values):
        view[at + i] = value
        if chunk.checks and (view.take(at + i) != value).any():
            raise WriteConflictError(f"two lanes store different values to one {where} address")


@instruction("ld", "ldu")
def decode_ld(ins):
    kind, where = ins.kind, space(ins.parts)
    puts = [destination(r, kind) for r in items(ins.operands[0])]
    width = BITS[kind] // 8
    if where == "param":
        return load_param(ins, puts, kind)
    target, count = address(ins.operands[1]), len(puts)
    where = "global" if where == "const" else where

    def run(chunk, mask):
        lanes = chunk.rows(mask)
        values = load(chunk, where, target(chunk)[lanes], lanes, width, count)
        for put, value in zip(puts, values, strict=True):
            if mask is not None:
                some = value
                value = np.zeros(chunk.lanes, some.dtype)
                value[lanes] = some
            put(chunk, value, mask)

    return run


def load_param(ins, puts, kind):
    operand, dtype = ins.operands[1], UNSIGNED[BITS[kind]]
    if not isinstance(operand.base, Symbol):
        raise UnsupportedError("a parameter's address in a register")
    name, offset = operand.base.name, operand.offset

    def run(chunk, mask):
        start = next(p.offset for p in chunk.program.parameters if p.name == name) + offset
        values = chunk.launch.parameters[start : start + dtype().itemsize * len(puts)].view(dtype)
        for put, value in zip(puts, values, strict=True):
            put(chunk, np.full(chunk.lanes, value), mask)

    return run


@instruction("st")
def decode_st(ins):
    kind, where = ins.kind, space(ins.parts)
    kind = f"b{BITS[kind]}"
    target = address(ins.operands[0])
    values = [source(r, kind) for r in items(ins.operands[1])]

    def run(chunk, mask):
        lanes = chunk.rows(mask)
        store(chunk, where, target(chunk)[lanes], lanes, [full(chunk, v(chunk))[lanes] for v in values])

    return run


@instruction("cvta")
def decode_cvta(ins):
    where = space(ins.parts)
    window = WINDOWS.get(where, 0)
    shift = np.int64(-window if "to" in ins.parts else window)
    get, put = source(ins.operands[1], ins.kind), destination(ins.operands[0], ins.kind)
    if window and ins.kind == "u32":
        raise UnsupportedError("32-bit generic addresses")

    def run(chunk, mask):
        value = get(chunk)
        put(chunk, value + shift.view(np.uint64) if window else value, mask)

    return run


@instruction("prefetch", "prefetchu", "discard", "applypriority")
def decode_hint(ins):
    return lambda chunk, mask: None


@instruction("createpolicy")
def decode_createpolicy(ins):
    put, nothing = destination(ins.operands[0], "b64"), source(Immediate("0"), "b64")
    return lambda chunk, mask: put(chunk, nothing(chunk), mask)
