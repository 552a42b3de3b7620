"""Matrix instructions mma, ldmatrix and stmatrix, and the part of a matrix that each lane holds.

In the names below g is a lane's group (lane // 4), t its index in the group (lane % 4), and e the element inside a
32-bit register. A fragment is then a reshape and a transposition. Products are summed exactly and rounded to float32,
since the hardware's order and intermediate precision are not specified.
"""

from __future__ import annotations

import operator
import re

import numpy as np

from tests.gpu.ptx.decode import destination, full, instruction, items, source
from tests.gpu.ptx.errors import UnsupportedError
from tests.gpu.ptx.formats import from_bf16, read_tf32
from tests.gpu.ptx.memory import address

SHAPES = {("m16n8k16", 16), ("m16n8k8", 16), ("m16n8k8", 32), ("m16n8k4", 32)}
OPERANDS = {"f16": 16, "bf16": 16, "tf32": 32}


def exact_product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Multiply matrices with sums in float64, rounded once.

    The order of a float32 sum in NumPy depends on the position in the matrix; that of a GPU does not.
    """
    return (a.astype(np.float64) @ b.astype(np.float64)).astype(np.float32)


def numbers(registers: np.ndarray, kind: str) -> np.ndarray:
    """Convert 32-bit registers to float32, with a last axis e."""
    if kind == "tf32":
        return read_tf32(registers)[..., None]
    halves = registers.view(np.uint16).reshape(*registers.shape, 2)
    return halves.view(np.float16).astype(np.float32) if kind == "f16" else from_bf16(halves)


def fragment_a(registers: list[np.ndarray], kind: str) -> np.ndarray:
    """Return a [warp, 16 rows, k]. Register q holds rows 8 * (q % 2) + g and the columns of block q // 2."""
    n = len(registers)
    table = numbers(np.stack(registers).reshape(n // 2, 2, -1, 8, 4), kind)  # block, half, warp, g, t, e
    return table.transpose(2, 1, 3, 0, 4, 5).reshape(table.shape[2], 16, -1)


def fragment_b(registers: list[np.ndarray], kind: str) -> np.ndarray:
    """Return b [warp, k, 8 columns]."""
    table = numbers(np.stack(registers).reshape(len(registers), -1, 8, 4), kind)  # block, warp, g, t, e
    return table.transpose(1, 0, 3, 4, 2).reshape(table.shape[1], -1, 8)


def fragment(operand, kind: str, build):
    """Return a function from the chunk to an operand as matrices.

    The matrices are cached, because many products use the same registers.
    """
    indices = tuple(register.index for register in items(operand))
    key = (build, kind, indices)

    def matrices(chunk):
        arrays = [chunk.registers[i] for i in indices]
        cached = chunk.fragments.get(key)
        if cached and all(map(operator.is_, cached[0], arrays)):
            return cached[1]
        built = build(arrays, kind)
        chunk.fragments[key] = (arrays, built)
        return built

    return matrices


@instruction("mma")
def decode_mma(ins):
    shape = next((p for p in ins.parts if re.fullmatch(r"m\d+n\d+k\d+", p)), "")
    kind_out, kind, kind_b, kind_in = ins.parts[-4:]
    if (
        (shape, OPERANDS.get(kind)) not in SHAPES
        or kind != kind_b
        or kind_out != kind_in
        or kind_out not in ("f32", "f16")
    ):
        raise UnsupportedError("mma of this shape or these types")
    if "row" not in ins.parts or "col" not in ins.parts or "sp" in ins.parts:
        raise UnsupportedError("mma with other layouts, or sparse")
    puts = [destination(o, "b32") for o in items(ins.operands[0])]
    c = [source(o, "b32") for o in items(ins.operands[3])]
    a, b = fragment(ins.operands[1], kind, fragment_a), fragment(ins.operands[2], kind, fragment_b)
    counts = tuple(len(items(operand)) for operand in ins.operands)
    registers = (int(shape.split("k")[1]) * OPERANDS[kind]) // 64
    accumulators = 4 if kind_out == "f32" else 2
    if counts != (accumulators, registers, registers // 2, accumulators):
        raise UnsupportedError("mma with another number of registers")

    def run(chunk, mask):
        chunk.whole_warps(mask)
        product = exact_product(a(chunk), b(chunk))
        blocks = product.reshape(-1, 2, 8, 4, 2)  # warp, half, g, t, e
        if kind_out == "f32":
            parts = np.ascontiguousarray(blocks.transpose(1, 4, 0, 2, 3)).reshape(4, -1)
            for put, part, get in zip(puts, parts, c, strict=True):
                put(chunk, (part + get(chunk).view(np.float32)).view(np.uint32), mask)
        else:
            parts = np.ascontiguousarray(blocks.transpose(1, 0, 2, 3, 4)).reshape(2, -1)
            for put, part, get in zip(puts, parts, c, strict=True):
                total = part + full(chunk, get(chunk)).view(np.float16).astype(np.float32)
                put(chunk, total.astype(np.float16).view(np.uint32), mask)

    return run


def rows_of(ins, operand, count: int):
    """Return a function from (chunk, mask) to the lanes that provide row addresses, and the addresses.

    There are ``count`` matrices of 8x8.
    """
    if count not in (1, 2, 4) or f"x{count}" not in ins.parts or "m8n8" not in ins.parts or ins.kind != "b16":
        raise UnsupportedError("matrices of another shape, type or number")
    target = address(operand)

    def lanes_and_addresses(chunk, mask):
        """Return lanes and addresses. Lane 8 * i + r provides the address of row r of matrix i."""
        providing = chunk.lane < 8 * count
        if chunk.whole_warps(mask) is not None:
            providing &= mask
        lanes = np.flatnonzero(providing)
        return lanes, target(chunk)[lanes]

    return lanes_and_addresses


@instruction("ldmatrix")
def decode_ldmatrix(ins):
    puts, transposed = [destination(o, "b32") for o in items(ins.operands[0])], "trans" in ins.parts
    count = len(puts)
    rows = rows_of(ins, ins.operands[1], count)

    def run(chunk, mask):
        lanes, addresses = rows(chunk, mask)
        if chunk.counters is not None:
            chunk.counters.shared(chunk, "ldmatrix", addresses, lanes, 16)
        positions = chunk.shared.positions(addresses, 16, chunk.cta[lanes])
        chunk.shared.read(positions, 16, chunk.warp[lanes])
        words = chunk.shared.views[4].take((positions // 4)[:, None] + np.arange(4))
        if transposed:
            tiles = words.view(np.uint16).reshape(-1, 8, 8).transpose(0, 2, 1)
            words = np.ascontiguousarray(tiles).view(np.uint32)
        parts = np.ascontiguousarray(words.reshape(-1, count, 32).transpose(1, 0, 2)).reshape(count, -1)
        for put, part in zip(puts, parts, strict=True):
            if mask is not None:
                active, part = part, np.zeros(chunk.lanes, np.uint32)
                part[np.flatnonzero(mask)] = active
            put(chunk, part, mask)

    return run


@instruction("stmatrix")
def decode_stmatrix(ins):
    gets, transposed = [source(o, "b32") for o in items(ins.operands[1])], "trans" in ins.parts
    rows = rows_of(ins, ins.operands[0], len(gets))

    def run(chunk, mask):
        lanes, addresses = rows(chunk, mask)
        if chunk.counters is not None:
            chunk.counters.shared(chunk, "stmatrix", addresses, lanes, 16)
        positions = chunk.shared.positions(addresses, 16, chunk.cta[lanes])
        executing = np.flatnonzero(mask) if mask is not None else slice(None)
        words = np.stack([full(chunk, get(chunk))[executing].reshape(-1, 32) for get in gets], 1)  # warp, matrix, lane
        words = np.ascontiguousarray(words)
        if transposed:
            tiles = words.view(np.uint16).reshape(-1, 8, 8).transpose(0, 2, 1)
            words = np.ascontiguousarray(tiles).view(np.uint32)
        columns = np.ascontiguousarray(words.reshape(-1, 4).T)
        chunk.shared.write(positions, list(columns), chunk.warp[lanes])

    return run
