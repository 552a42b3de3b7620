"""Loads and stores in every state space, and the global memory of a machine."""

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

ALLOWED, WRITTEN = 1, 3  # states of a byte; 0 is outside every buffer
# Generic addresses of shared and local memory begin beyond the global memory of every machine.
WINDOWS = {"shared": 1 << 40, "local": 1 << 41}


class GlobalMemory:
    """Bytes of global memory, with the state of each byte and the CTAs that accessed it in this launch."""

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

    def mark(self, part: slice) -> None:
        self.state[part] = WRITTEN

    def begin(self, ctas: int, granule: int) -> None:
        """Begin a launch. Its CTA c has stamp ``first + c``; ``first + ctas`` means several readers."""
        self.first, self.several, self.next = self.next, self.next + ctas, self.next + ctas + 1
        if granule not in self.stamps:
            self.stamps[granule] = (np.zeros(self.size // granule, np.int32), np.zeros(self.size // granule, np.int32))
        self.writers, self.readers = self.stamps[granule]
        self.granule = granule

    def check(self, address: np.ndarray, size: int, access: str) -> None:
        """Check alignment and bounds. ``address`` is unsigned, so that a negative one is far outside."""
        if address.size == 0:
            return
        step = min(size, 16)  # vectors of 32 bytes exist, aligned as pairs
        if (address & np.uint64(size - 1)).any():
            raise MisalignedError(f"global address {int(address[(address & np.uint64(size - 1)) != 0][0]):#x}")
        wrong = address > np.uint64(self.size - size)
        if not wrong.any():
            addresses = address.view(np.int64)
            for offset in range(0, size, step):
                wrong |= (self.state.take(addresses + offset) & self.state.take(addresses + offset + step - 1)) == 0
        if wrong.any():
            raise OutOfBoundsError(f"{access} of {size} bytes at global address {int(address[wrong][0]):#x}")

    def granules(self, address: np.ndarray, size: int, cta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        count = max(1, size // self.granule)
        stamps = (cta + self.first).astype(np.int32)
        if count == 1:
            return address // self.granule, stamps
        return ((address // self.granule)[:, None] + np.arange(count)).ravel(), np.repeat(stamps, count)

    def check_written(self, addresses: np.ndarray, size: int) -> None:
        width = min(size, 8)
        for offset in range(0, size, width):
            state = self.states[width].take((addresses + offset) // width).view(np.uint8)
            if state.size and int(state.min()) != WRITTEN:
                place = int((addresses + offset).repeat(width)[state != WRITTEN][0])
                raise UnwrittenError(f"read of unwritten global memory at or after {place:#x}")

    def before_read(self, address: np.ndarray, size: int, cta: np.ndarray) -> None:
        self.check(address, size, "read")
        addresses = address.view(np.int64)
        self.check_written(addresses, size)
        granules, stamps = self.granules(addresses, size, cta)
        self.check_stamps(self.writers, granules, stamps, "reads", "wrote")
        seen = self.readers.take(granules)
        new = np.where((seen >= self.first) & (seen != stamps), np.int32(self.several), stamps)
        self.readers[granules] = new
        several = self.readers.take(granules) != new  # several CTAs read it in the same instruction
        if several.any():
            self.readers[granules[several]] = self.several

    def before_write(self, address: np.ndarray, size: int, cta: np.ndarray) -> None:
        self.check(address, size, "write")
        granules, stamps = self.granules(address.view(np.int64), size, cta)
        self.check_stamps(self.writers, granules, stamps, "writes", "wrote")
        self.check_stamps(self.readers, granules, stamps, "writes", "read")
        self.writers[granules] = stamps
        self.check_stamps(self.writers, granules, stamps, "writes", "wrote")

    def check_stamps(self, table: np.ndarray, granules: np.ndarray, stamps: np.ndarray, does: str, did: str) -> None:
        recorded = table.take(granules)
        wrong = (recorded >= self.first) & (recorded != stamps)
        if wrong.any():
            i = np.flatnonzero(wrong)[0]
            other = "several CTAs" if recorded[i] == self.several else f"CTA {int(recorded[i]) - self.first}"
            raise GlobalRaceError(
                f"CTA {int(stamps[i]) - self.first} {does} memory that {other} {did} in the same launch, "
                f"global address {int(granules[i]) * self.granule:#x}"
            )

    def mark_lanes(self, addresses: np.ndarray, size: int) -> None:
        width = min(size, 8)
        for offset in range(0, size, width):
            self.states[width][(addresses + offset) // width] = int.from_bytes(bytes([WRITTEN]) * width, "little")


def space(parts: tuple[str, ...]) -> str:
    """Return the state space that an instruction names, "" for the generic one."""
    return next(
        (p.split("::")[0] for p in parts if p.split("::")[0] in ("global", "shared", "local", "param", "const")), ""
    )


def address(operand: Address):
    """Return a function from the chunk to every lane's address, int64."""
    base = operand.base
    kind = "u32" if isinstance(base, Register) and base.bits == 32 else "u64"
    value, offset = source(base, kind), operand.offset
    return lambda chunk: full(
        chunk, value(chunk).astype(np.int64) + offset if offset else value(chunk).astype(np.int64)
    )


def generic(chunk, addresses: np.ndarray) -> tuple[str, np.ndarray]:
    """Return the state space of generic addresses, and the addresses in it."""
    for name, start in WINDOWS.items():
        inside = (addresses >= start) & (addresses < 2 * start)
        if inside.any():
            if not inside.all():
                raise UnsupportedError("generic addresses of several state spaces in one instruction")
            return name, addresses - start
    return "global", addresses


def load(chunk, state_space: str, addresses: np.ndarray, lanes, width: int, count: int) -> list[np.ndarray]:
    """Load ``count`` unsigned values of ``width`` bytes from the address of every lane in the index ``lanes``."""
    size = width * count
    if state_space == "":
        state_space, addresses = generic(chunk, addresses)
    if state_space == "shared":
        if chunk.counters is not None:
            chunk.counters.shared(chunk, "load", addresses, lanes, size)
        addresses = chunk.shared.positions(addresses, size, chunk.cta[lanes])
        chunk.shared.read(addresses, size, chunk.warp[lanes])
        view = chunk.shared.views[width]
    elif state_space == "local":
        if addresses.size and (int(addresses.min()) < 0 or int(addresses.max()) + size > chunk.launch.layout.local):
            raise OutOfBoundsError("a local address outside the thread's memory")
        addresses = addresses + np.arange(chunk.lanes)[lanes] * chunk.launch.layout.local
        view = chunk.local_views[width]
    else:
        if chunk.counters is not None:
            chunk.counters.globals(chunk, "load", addresses, lanes, size)
        memory = chunk.machine.memory
        if chunk.checks:
            memory.before_read(addresses.view(np.uint64), size, chunk.cta_number[lanes])
        else:
            memory.check(addresses.view(np.uint64), size, "read")
        view = memory.views[width]
    addresses = addresses // width
    return [view.take(addresses + i) for i in range(count)]


def store(chunk, state_space: str, addresses: np.ndarray, lanes, values: list[np.ndarray]) -> None:
    """Store consecutive values at the address of every lane in the index ``lanes``."""
    width = values[0].dtype.itemsize
    size = width * len(values)
    if state_space == "":
        state_space, addresses = generic(chunk, addresses)
    if state_space == "shared":
        if chunk.counters is not None:
            chunk.counters.shared(chunk, "store", addresses, lanes, size)
        chunk.shared.write(chunk.shared.positions(addresses, size, chunk.cta[lanes]), values, chunk.warp[lanes])
        return
    if state_space == "local":
        if addresses.size and (int(addresses.min()) < 0 or int(addresses.max()) + size > chunk.launch.layout.local):
            raise OutOfBoundsError("a local address outside the thread's memory")
        addresses = addresses + np.arange(chunk.lanes)[lanes] * chunk.launch.layout.local
        view = chunk.local_views[width]
    else:
        if chunk.counters is not None:
            chunk.counters.globals(chunk, "store", addresses, lanes, size)
        memory = chunk.machine.memory
        if chunk.checks:
            memory.before_write(addresses.view(np.uint64), size, chunk.cta_number[lanes])
        else:
            memory.check(addresses.view(np.uint64), size, "write")
        memory.mark_lanes(addresses, size)
        view = memory.views[width]
    addresses = addresses // width
    for i, value in enumerate(values):
        view[addresses + i] = value
        if chunk.checks and (view.take(addresses + i) != value).any():
            raise WriteConflictError(f"two lanes store different values to one {state_space} address")


@instruction("ld", "ldu")
def decode_ld(ins):
    kind, state_space = ins.kind, space(ins.parts)
    puts = [destination(r, kind) for r in items(ins.operands[0])]
    width = BITS[kind] // 8
    if state_space == "param":
        return load_param(ins, puts, kind)
    target, count = address(ins.operands[1]), len(puts)
    state_space = "global" if state_space == "const" else state_space

    def run(chunk, mask):
        lanes = chunk.rows(mask)
        values = load(chunk, state_space, target(chunk)[lanes], lanes, width, count)
        for put, value in zip(puts, values, strict=True):
            if mask is not None:
                active = value
                value = np.zeros(chunk.lanes, active.dtype)
                value[lanes] = active
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
    kind, state_space = ins.kind, space(ins.parts)
    kind = f"b{BITS[kind]}"
    target = address(ins.operands[0])
    values = [source(r, kind) for r in items(ins.operands[1])]

    def run(chunk, mask):
        lanes = chunk.rows(mask)
        store(chunk, state_space, target(chunk)[lanes], lanes, [full(chunk, v(chunk))[lanes] for v in values])

    return run


@instruction("cvta")
def decode_cvta(ins):
    state_space = space(ins.parts)
    window = WINDOWS.get(state_space, 0)
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
