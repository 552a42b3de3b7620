"""wgmma: asynchronous products by the four warps of a warpgroup, with operands in shared memory.

Results in registers are poison until wgmma.wait_group retires their group. Writing shared memory that an instruction in
flight reads is an error.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np

from tests.gpu.ptx.decode import UNDEFINED, full, instruction, items, predicate, source
from tests.gpu.ptx.errors import AsyncError, OutOfBoundsError, UnsupportedError
from tests.gpu.ptx.formats import from_bf16, read_tf32
from tests.gpu.ptx.matrix import OPERANDS, exact_product, fragment, fragment_a
from tests.gpu.ptx.operands import Vector
from tests.gpu.ptx.shared import BASE, BEING_READ, WRITTEN

SWIZZLES = {0: (16, 0), 1: (128, 7), 2: (64, 3), 3: (32, 1)}  # code: (bytes of a row, mask of the xored address bits)
POISON = np.uint32(0xFFFFFFFF)


@dataclass
class InFlight:
    """One instruction in flight, for the warpgroups that executed it and have not waited for it."""

    groups: np.ndarray  # whether each warpgroup of the chunk is one of them
    numbers: np.ndarray  # the number of groups that each warpgroup had committed before
    results: dict[int, np.ndarray] = field(default_factory=dict)  # register: value
    reads: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)  # 16-byte pieces, and their readers

    def __post_init__(self) -> None:
        self.lanes = None if self.groups.all() else np.repeat(self.groups, 128)

    def part(self, groups: np.ndarray) -> InFlight:
        reads = [(pieces[groups[readers]], readers[groups[readers]]) for pieces, readers in self.reads]
        return InFlight(groups, self.numbers, self.results, reads)


class WgmmaState:
    """Instructions in flight of a chunk, in the order of issue, and the number of commits of each warpgroup."""

    def __init__(self, lanes: int) -> None:
        self.flying: list[InFlight] = []
        self.committed = np.zeros(lanes // 128, np.int64)


@cache
def pieces_of(rows: int, columns: int, width: int, k_major: bool, code: int, leading: int, stride: int) -> np.ndarray:
    """Return the distinct 16-byte pieces of `offsets`, before the swizzle."""
    return np.unique(offsets(rows, columns, width, k_major, code, leading, stride) & ~15)


@cache
def offsets(rows: int, columns: int, width: int, k_major: bool, code: int, leading: int, stride: int) -> np.ndarray:
    """Return the offsets of elements [row of M or N, column of K] from a descriptor's start, before the swizzle."""
    span, _ = SWIZZLES[code]
    r, c = np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij")
    each = span // width  # elements in a row of a core matrix
    if k_major:  # 8 rows of `span` bytes along K; stride leads to the next 8 rows, leading along K
        return (r % 8) * span + (c % each) * width + (r // 8) * stride + (c // each) * leading
    # 8 steps of K, each `span` bytes along M or N; stride leads to the next 8 of K, leading along M or N
    return (c % 8) * span + (r % each) * width + (c // 8) * stride + (r // each) * leading


def tile(chunk, descriptors: np.ndarray, shape: tuple[int, int], kind: str, k_major: bool, issued: InFlight):
    """Read [warpgroup, row, column of K] as float32 through one matrix descriptor per warpgroup."""
    groups = np.flatnonzero(issued.groups)
    descriptor = full(chunk, descriptors)[::128][groups]
    width = OPERANDS[kind] // 8
    if (descriptor != descriptor[0]).any() and len({int(d) >> 14 for d in descriptor}) > 1:
        raise UnsupportedError("descriptors of different layouts in one instruction")
    layout = int(descriptor[0])
    start = (descriptor & np.uint64(0x3FFF)).astype(np.int64) << 4
    leading, stride = (layout >> 16 & 0x3FFF) << 4, (layout >> 32 & 0x3FFF) << 4
    code = layout >> 62
    if layout >> 49 & 7:
        raise UnsupportedError("a descriptor with a base offset")
    form = *shape, width, k_major, code, leading, stride
    addresses = start[:, None, None] + offsets(*form)
    addresses ^= ((addresses >> 7) & SWIZZLES[code][1]) << 4
    if addresses.min() < BASE or addresses.max() + width > chunk.shared.end:
        raise OutOfBoundsError("a descriptor reaches outside the shared memory")
    shifts = chunk.cta[::128][groups] * chunk.shared.stride
    positions = addresses + shifts[:, None, None]
    bits = chunk.shared.views[width].take(positions // width)
    if chunk.checks:
        # Starts are multiples of 16, so that the swizzle moves whole pieces.
        pieces = start[:, None] + pieces_of(*form)
        pieces = ((pieces ^ ((pieces >> 7) & SWIZZLES[code][1]) << 4) + shifts[:, None]).ravel()
        readers = np.repeat(groups, len(pieces) // len(groups))
        issued.reads.append((pieces, readers))
        chunk.shared.check_written(pieces, 16, "read")
        granules, granule_readers = chunk.shared.granules(pieces, 16, readers)
        for warp in range(4):
            chunk.shared.check_after_writes(granules, 4 * granule_readers + warp, "read")  # `retire` stamps the read
        if chunk.shared.dirty[granules].any():
            raise AsyncError(
                "no fence.proxy.async between an ordinary write to shared memory and a wgmma that reads it"
            )
        chunk.shared.mark(pieces, 16, BEING_READ)
    if kind == "tf32":
        return read_tf32(bits)
    return bits.view(np.float16).astype(np.float32) if kind == "f16" else from_bf16(bits)


def wait(chunk, pending: int, groups: np.ndarray) -> None:
    """Retire all groups of instructions of these warpgroups but the last ``pending`` ones."""
    state, kept = chunk.wgmma, []
    for i, flying in enumerate(state.flying):
        done = flying.groups & groups & (flying.numbers < state.committed - pending)
        if done.any():
            retire(chunk, flying.part(done), state.flying[i + 1 :])
            flying = flying.part(flying.groups & ~done)
        if flying.groups.any():
            kept.append(flying)
    state.flying = kept
    for flying in kept:
        for pieces, _ in flying.reads:
            chunk.shared.mark(pieces, 16, BEING_READ)


def retire(chunk, done: InFlight, later: list[InFlight]) -> None:
    for register, value in done.results.items():
        # A later product in flight on the same accumulator keeps the register poisoned.
        newer = [f for f in later if register in f.results]
        if any(f.lanes is None for f in newer):
            continue
        lanes = done.lanes
        for f in newer:
            lanes = ~f.lanes if lanes is None else lanes & ~f.lanes
        chunk.registers[register] = value if lanes is None else np.where(lanes, value, chunk.registers[register])
    for pieces, readers in done.reads:
        chunk.shared.mark(pieces, 16, WRITTEN)
        granules, granule_readers = chunk.shared.granules(pieces, 16, readers)
        for warp in range(4):
            chunk.shared.stamp_read(granules, 4 * granule_readers + warp)


@instruction("wgmma")
def decode_wgmma(ins):
    if ins.parts[1] == "fence":
        return lambda chunk, mask: None
    if ins.parts[1] in ("commit_group", "wait_group"):
        pending = int(ins.operands[0].text) if ins.operands else 0

        def group(chunk, mask):
            groups = executing(chunk, mask)
            if ins.parts[1] == "wait_group":
                wait(chunk, pending, groups)
            else:
                chunk.wgmma.committed += groups

        return group
    return product(ins)


def executing(chunk, mask) -> np.ndarray:
    """Return whether each warpgroup executes the instruction. CTAs may end before others, or loop less often."""
    if chunk.warps % 4:
        raise UnsupportedError("wgmma in a CTA of other than whole warpgroups")
    groups = chunk.whole_warps(mask, 128)
    return np.ones(chunk.lanes // 128, bool) if groups is None else groups


def product(ins):
    shape = next(re.fullmatch(r"m64n(\d+)k(\d+)", p) for p in ins.parts if p.startswith("m64"))
    n, k, kind = int(shape[1]), int(shape[2]), ins.kind
    if kind not in OPERANDS or ins.parts[-3] != "f32" or k * OPERANDS[kind] != 256 or "sp" in ins.parts:
        raise UnsupportedError("wgmma of these types")
    accumulators = [r.index for r in items(ins.operands[0])]
    from_registers = isinstance(ins.operands[1], Vector)
    a = fragment(ins.operands[1], kind, fragment_a) if from_registers else source(ins.operands[1], "b64")
    b, scale = source(ins.operands[2], "b64"), predicate(ins.operands[3])
    sign_a, sign_b, *transposed = (int(o.text) for o in ins.operands[4:])
    transposed_a = transposed[0] if len(transposed) == 2 else 0
    transposed_b = transposed[-1] if transposed else 0
    if len(accumulators) != n // 2:
        raise UnsupportedError("wgmma with another number of accumulators")

    def run(chunk, mask):
        state: Any = chunk.wgmma
        issued = InFlight(executing(chunk, mask), state.committed.copy())
        right = tile(chunk, b(chunk), (n, k), kind, not transposed_b, issued)
        if from_registers:
            left = a(chunk).reshape(-1, 64, k)
            left = left if mask is None else left[issued.groups]
        else:
            left = tile(chunk, a(chunk), (64, k), kind, not transposed_a, issued)
        total = np.float32(sign_a * sign_b) * exact_product(left, right.transpose(0, 2, 1))
        blocks = total.reshape(-1, 4, 2, 8, n // 8, 4, 2)  # group, warp, half, g, block, t, e
        parts = np.ascontiguousarray(blocks.transpose(4, 2, 6, 0, 1, 3, 5)).reshape(n // 2, -1)
        adds, poison = full(chunk, scale(chunk)), np.full(chunk.lanes, POISON)
        for register, part in zip(accumulators, parts, strict=True):
            if mask is not None:
                active, part = part, np.zeros(chunk.lanes, np.float32)
                part[mask] = active
            if adds.any():
                part = np.where(adds, part + old_value(chunk, register).view(np.float32), part)
            issued.results[register] = part.view(np.uint32)
            chunk.registers[register] = poison if mask is None else np.where(mask, poison, content(chunk, register))
        state.flying.append(issued)

    return run


def content(chunk, register: int) -> np.ndarray:
    value = chunk.registers[register]
    return np.full(chunk.lanes, POISON) if value is UNDEFINED else value


def old_value(chunk, register: int) -> np.ndarray:
    """Return an accumulator, in flight or not. Products of the same shape may chain without a wait."""
    value = content(chunk, register)
    for flying in chunk.wgmma.flying:
        if register in flying.results:
            new = flying.results[register]
            value = new if flying.lanes is None else np.where(flying.lanes, new, value)
    return value
