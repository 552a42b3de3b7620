"""wgmma: products by the four warps of a warpgroup, with operands in shared memory, that run on until a wait.

Results are poison in the registers until wgmma.wait_group retires their group, and nobody may write the shared memory
that an instruction in flight reads.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpu.ptx.decode import UNDEFINED, full, instruction, items, predicate, source
from gpu.ptx.errors import AsyncError, OutOfBoundsError, UnsupportedError
from gpu.ptx.formats import from_bf16, read_tf32
from gpu.ptx.matrix import OPERANDS, fragment, fragment_a
from gpu.ptx.operands import Vector
from gpu.ptx.shared import BASE, BEING_READ, WRITTEN

SWIZZLES = {0: (16, 0), 1: (128, 7), 2: (64, 3), 3: (32, 1)}  # code: bytes in a row, bits of the address that are xored
POISON = np.uint32(0xFFFFFFFF)


@dataclass
class InFlight:
    results: dict[int, np.ndarray]  # register: value
    reads: list[np.ndarray]  # positions of the 16-byte pieces it reads
    warps: list[np.ndarray]
    group: int


class WgmmaState:
    """A chunk's wgmma instructions. All warpgroups of the chunk must agree on them."""

    def __init__(self) -> None:
        self.flying: list[InFlight] = []
        self.committed = 0


def offsets(rows: int, columns: int, width: int, k_major: bool, code: int, leading: int, stride: int) -> np.ndarray:
    """Of element [row of M or N, column of K] from a descriptor's start, before the swizzle."""
    span, _ = SWIZZLES[code]
    r, c = np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij")
    each = span // width  # elements in a row of a core matrix
    if k_major:  # 8 rows of `span` bytes along K; stride goes to the next 8 rows, leading along K
        return (r % 8) * span + (c % each) * width + (r // 8) * stride + (c // each) * leading
    # 8 steps of K, each `span` bytes along M or N; stride goes to the next 8 of K, leading along M or N
    return (c % 8) * span + (r % each) * width + (c // 8) * stride + (r // each) * leading


def tile(
    chunk, descriptor: np.ndarray, shape: tuple[int, int], kind: str, k_major: bool, reads: InFlight
) -> np.ndarray:
    """[warpgroup, row, column of K] as float32, read through one matrix descriptor a warpgroup."""
    width = OPERANDS[kind] // 8
    if (descriptor != descriptor[0]).any() and len({int(d) >> 14 for d in descriptor}) > 1:
        raise UnsupportedError("descriptors of different layouts in one instruction")
    layout = int(descriptor[0])
    start = (descriptor & np.uint64(0x3FFF)).astype(np.int64) << 4
    leading, stride = (layout >> 16 & 0x3FFF) << 4, (layout >> 32 & 0x3FFF) << 4
    code = layout >> 62
    if layout >> 49 & 7:
        raise UnsupportedError("a descriptor with a base offset")
    at = start[:, None, None] + offsets(*shape, width, k_major, code, leading, stride)
    at ^= ((at >> 7) & SWIZZLES[code][1]) << 4
    if at.min() < BASE or at.max() + width > chunk.shared.end:
        raise OutOfBoundsError("a descriptor reaches outside the shared memory")
    positions = at + (chunk.cta[::128] * chunk.shared.stride)[:, None, None]
    bits = chunk.shared.views[width].take(positions // width)
    if chunk.checks:
        # Two warpgroups of a CTA may read the same pieces: keep them apart.
        group = np.arange(len(at))[:, None, None] << 40
        groups, pieces = np.divmod(np.unique((positions & ~15) | group), 1 << 40)
        for warp in range(4):
            reads.reads.append(pieces)
            reads.warps.append(4 * groups + warp)
            chunk.shared.read(pieces, 16, reads.warps[-1])
        granules, _ = chunk.shared.granules(pieces, 16, pieces)
        if chunk.shared.dirty[granules].any():
            raise AsyncError(
                "no fence.proxy.async between an ordinary write to shared memory and a wgmma that reads it"
            )
        chunk.shared.mark(pieces, 16, BEING_READ)
    if kind == "tf32":
        return read_tf32(bits)
    return bits.view(np.float16).astype(np.float32) if kind == "f16" else from_bf16(bits)


def wait(chunk, pending: int) -> None:
    state = chunk.wgmma
    done = [f for f in state.flying if f.group < state.committed - pending]
    state.flying = [f for f in state.flying if f.group >= state.committed - pending]
    for instruction_done in done:
        for register, value in instruction_done.results.items():
            # A later product in flight on the same accumulator keeps it poison.
            if not any(register in f.results for f in state.flying):
                chunk.registers[register] = value
        for positions, warps in zip(instruction_done.reads, instruction_done.warps, strict=True):
            chunk.shared.mark(positions, 16, WRITTEN)
            chunk.shared.stamp_read(*chunk.shared.granules(positions, 16, warps))
    for flying in state.flying:
        for positions in flying.reads:
            chunk.shared.mark(positions, 16, BEING_READ)


@instruction("wgmma")
def decode_wgmma(ins):
    if ins.parts[1] == "fence":
        return lambda chunk, mask: None
    if ins.parts[1] in ("commit_group", "wait_group"):
        pending = int(ins.operands[0].text) if ins.operands else 0

        def group(chunk, mask):
            together(chunk, mask)
            if pending or ins.parts[1] == "wait_group":
                wait(chunk, pending)
            else:
                chunk.wgmma.committed += 1

        return group
    return product(ins)


def together(chunk, mask) -> None:
    if mask is not None or chunk.warps % 4:
        raise UnsupportedError("wgmma that not every warpgroup of the chunk executes")


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
        together(chunk, mask)
        state: Any = chunk.wgmma
        mine = InFlight({}, [], [], state.committed)
        right = tile(chunk, full(chunk, b(chunk))[::128], (n, k), kind, not transposed_b, mine)
        if from_registers:
            left = a(chunk).reshape(-1, 64, k)
        else:
            left = tile(chunk, full(chunk, a(chunk))[::128], (64, k), kind, not transposed_a, mine)
        total = np.float32(sign_a * sign_b) * (left @ right.transpose(0, 2, 1))
        blocks = total.reshape(-1, 4, 2, 8, n // 8, 4, 2)  # group, warp, half, g, block, t, e
        parts = np.ascontiguousarray(blocks.transpose(4, 2, 6, 0, 1, 3, 5)).reshape(n // 2, -1)
        adds = full(chunk, scale(chunk))
        for register, part in zip(accumulators, parts, strict=True):
            if adds.any():
                part = np.where(adds, part + old_value(chunk, register).view(np.float32), part)
            mine.results[register] = part.view(np.uint32)
            chunk.registers[register] = np.full(chunk.lanes, POISON)
        state.flying.append(mine)

    return run


def old_value(chunk, register: int) -> np.ndarray:
    """An accumulator, in flight or not: products of one shape may chain without a wait."""
    for flying in reversed(chunk.wgmma.flying):
        if register in flying.results:
            return flying.results[register]
    value = chunk.registers[register]
    return np.full(chunk.lanes, POISON) if value is UNDEFINED else value
