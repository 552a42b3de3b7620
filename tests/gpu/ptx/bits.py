"""Moves, logic, shifts, bit fields, comparisons and selections."""

from __future__ import annotations

import operator
from dataclasses import replace

import numpy as np

from tests.gpu.ptx.arithmetic import ELEMENTS, FLOATING, elementwise
from tests.gpu.ptx.decode import UNDEFINED, destination, full, instruction, items, predicate, source
from tests.gpu.ptx.errors import UnsupportedError
from tests.gpu.ptx.formats import BITS, UNSIGNED, flush
from tests.gpu.ptx.operands import Register, Vector


@instruction("mov")
def decode_mov(ins):
    to, operand = ins.operands
    kind = "pred" if ins.kind == "pred" else f"b{BITS[ins.kind]}"
    if isinstance(operand, Vector):
        return pack(ins)
    if isinstance(to, Vector):
        return unpack(ins)
    get, put = source(operand, kind), destination(to, kind)
    return lambda chunk, mask: put(chunk, get(chunk), mask)


def pack(ins):
    """Return a handler of mov.b32 %r, {%lo, %hi}, whose first element is the lowest.

    Compilers pack an undefined register if only the other element matters. An undefined element is poison here (a NaN,
    and an address outside any buffer). If all elements are undefined, the move raises an error like any other use.
    """
    parts = items(ins.operands[1])
    bits = BITS[ins.kind] // len(parts)
    indices = [part.index if isinstance(part, Register) else None for part in parts]
    gets, put = [source(o, f"b{bits}") for o in parts], destination(ins.operands[0], f"b{BITS[ins.kind]}")

    def run(chunk, mask):
        table = np.full((chunk.lanes, len(parts)), UNSIGNED[bits](-1 % (1 << bits)))
        undefined = [index is not None and chunk.registers[index] is UNDEFINED for index in indices]
        for i, get in enumerate(gets):
            if not undefined[i] or all(undefined):
                table[:, i] = get(chunk)
        put(chunk, table.view(UNSIGNED[BITS[ins.kind]]).ravel(), mask)

    return run


def unpack(ins):
    parts = items(ins.operands[0])
    bits = BITS[ins.kind] // len(parts)
    get, puts = source(ins.operands[1], f"b{BITS[ins.kind]}"), [destination(o, f"b{bits}") for o in parts]

    def run(chunk, mask):
        table = full(chunk, get(chunk)).view(UNSIGNED[bits]).reshape(-1, len(parts))
        for i, put in enumerate(puts):
            put(chunk, np.ascontiguousarray(table[:, i]), mask)

    return run


def logic(ins, function):
    if ins.kind == "pred":
        gets, put = [predicate(o) for o in ins.operands[1:]], destination(ins.operands[0], "pred")
        return lambda chunk, mask: put(chunk, function(*[g(chunk) for g in gets]), mask)
    return elementwise(ins, function, f"b{BITS[ins.kind]}")


@instruction("and")
def decode_and(ins):
    return logic(ins, operator.and_)


@instruction("or")
def decode_or(ins):
    return logic(ins, operator.or_)


@instruction("xor")
def decode_xor(ins):
    return logic(ins, operator.xor)


@instruction("not")
def decode_not(ins):
    return logic(ins, operator.invert)


@instruction("cnot")
def decode_cnot(ins):
    return elementwise(ins, lambda a: (a == 0).astype(a.dtype))


@instruction("lop3")
def decode_lop3(ins):
    table = int(ins.operands[4].text, 0)

    def function(a, b, c):
        result = np.zeros_like(a & b & c)
        for i in range(8):
            if table >> i & 1:
                result |= (a if i & 4 else ~a) & (b if i & 2 else ~b) & (c if i & 1 else ~c)
        return result

    return elementwise(replace(ins, operands=ins.operands[:4]), function)


@instruction("shl", "shr")
def decode_shift(ins):
    """Return a handler of shifts; a count of the width or more gives 0, or the sign."""
    kind, left = ins.kind, ins.name == "shl"
    bits = BITS[kind]
    value, count, put = (
        source(ins.operands[1], kind),
        source(ins.operands[2], "u32"),
        destination(ins.operands[0], kind),
    )

    def run(chunk, mask):
        a, n = value(chunk), count(chunk)
        limited = np.minimum(n, np.uint32(bits - 1)).astype(a.dtype)
        shifted = a << limited if left else a >> limited
        if left or a.dtype.kind == "u":
            shifted = np.where(n >= bits, a.dtype.type(0), shifted)
        put(chunk, shifted, mask)

    return run


@instruction("shf")
def decode_shf(ins):
    left, wrap = "l" in ins.parts, "wrap" in ins.parts

    def function(low, top, count):
        pair = (top.astype(np.uint64) << np.uint64(32)) | low
        n = (count & np.uint32(31) if wrap else np.minimum(count, np.uint32(32))).astype(np.uint64)
        shifted = (pair << n) >> np.uint64(32) if left else pair >> n
        return shifted.astype(np.uint32)

    return elementwise(ins, function)


def low_mask(length):
    """Return a mask of ``length`` ones, at most 64."""
    ones = (np.uint64(1) << np.minimum(length, np.uint64(63))) - np.uint64(1)
    return np.where(length >= 64, ~np.uint64(0), ones)


def field_operands(ins, first: int):
    """Return a function that computes start and length of a bit field from the lowest 8 bits of each operand."""
    start, length = source(ins.operands[first], "u32"), source(ins.operands[first + 1], "u32")
    byte = np.uint32(255)
    return lambda chunk: ((start(chunk) & byte).astype(np.uint64), (length(chunk) & byte).astype(np.uint64))


@instruction("bfe")
def decode_bfe(ins):
    kind = ins.kind
    bits, unsigned = BITS[kind], UNSIGNED[BITS[kind]]
    value, where, put = source(ins.operands[1], f"b{bits}"), field_operands(ins, 2), destination(ins.operands[0], kind)

    def run(chunk, mask):
        a, (start, length) = value(chunk).astype(np.uint64), where(chunk)
        ones = low_mask(length)
        result = np.where(start < 64, a >> np.minimum(start, np.uint64(63)), np.uint64(0)) & ones
        if kind[0] == "s":
            # The field's highest bit inside the word is the sign.
            top = np.minimum(start + length, np.uint64(bits)) - np.uint64(1)
            negative = (length > 0) & (((a >> np.minimum(top, np.uint64(bits - 1))) & np.uint64(1)) == 1)
            inside = low_mask(np.where(start < bits, np.minimum(length, np.uint64(bits) - start), np.uint64(0)))
            result = np.where(negative, result | ~inside, result)
        put(chunk, result.astype(unsigned), mask)

    return run


@instruction("bfi")
def decode_bfi(ins):
    kind = f"b{BITS[ins.kind]}"
    inserted, base = source(ins.operands[1], kind), source(ins.operands[2], kind)
    where, put = field_operands(ins, 3), destination(ins.operands[0], kind)

    def run(chunk, mask):
        a, b, (start, length) = inserted(chunk).astype(np.uint64), base(chunk).astype(np.uint64), where(chunk)
        shift = np.minimum(start, np.uint64(63))
        field = np.where(start < 64, low_mask(length) << shift, np.uint64(0))
        put(chunk, ((b & ~field) | ((a << shift) & field)).astype(UNSIGNED[BITS[kind]]), mask)

    return run


@instruction("prmt")
def decode_prmt(ins):
    if len(ins.parts) != 2:
        raise UnsupportedError("prmt with a mode")

    def function(a, b, selector):
        pair = (b.astype(np.uint64) << np.uint64(32)) | a
        result = np.uint32(0)
        for i in range(4):
            pick = selector >> np.uint32(4 * i)
            byte = ((pair >> ((pick & np.uint32(7)) * np.uint32(8)).astype(np.uint64)) & np.uint64(255)).astype(
                np.uint32
            )
            sign = np.where(byte & np.uint32(128), np.uint32(255), np.uint32(0))
            result = result | (np.where(pick & np.uint32(8), sign, byte) << np.uint32(8 * i))
        return result

    return elementwise(ins, function, "b32")


@instruction("brev")
def decode_brev(ins):
    def function(a):
        as_bytes = a.view(np.uint8).reshape(-1, a.dtype.itemsize)
        reversed_bits = np.packbits(np.unpackbits(as_bytes, axis=1, bitorder="little"), axis=1)[:, ::-1]
        return np.ascontiguousarray(reversed_bits).view(a.dtype).ravel()[: a.size]

    return elementwise(ins, lambda a: function(np.ascontiguousarray(a)))


@instruction("popc", "clz")
def decode_count(ins):
    kind = f"b{BITS[ins.kind]}"
    get, put, ones = source(ins.operands[1], kind), destination(ins.operands[0], "u32"), ins.name == "popc"

    def run(chunk, mask):
        a = get(chunk)
        if not ones:  # copy the highest one to all lower bits: the remaining zeros are the leading zeros
            for shift in (1, 2, 4, 8, 16, 32):
                if shift < BITS[kind]:
                    a = a | (a >> a.dtype.type(shift))
            a = ~a
        put(chunk, np.bitwise_count(a).astype(np.uint32), mask)

    return run


@instruction("selp")
def decode_selp(ins):
    kind = f"b{BITS[ins.kind]}"
    a, b, put = source(ins.operands[1], kind), source(ins.operands[2], kind), destination(ins.operands[0], kind)
    choose = predicate(ins.operands[3])
    return lambda chunk, mask: put(chunk, np.where(choose(chunk), a(chunk), b(chunk)), mask)


COMPARE = {
    **{
        "eq": np.equal,
        "ne": np.not_equal,
        "lt": np.less,
        "le": np.less_equal,
        "gt": np.greater,
        "ge": np.greater_equal,
    },
    **{"lo": np.less, "ls": np.less_equal, "hi": np.greater, "hs": np.greater_equal},
}
COMBINE = {"and": operator.and_, "or": operator.or_, "xor": operator.xor}


def comparison(name: str, floating: bool):
    if not floating:
        return COMPARE[name]

    def unordered(a, b):
        return np.isnan(a) | np.isnan(b)

    if name == "nan":
        return unordered
    if name == "num":
        return lambda a, b: ~unordered(a, b)
    if name == "ne":  # ordered: false with a NaN, unlike NumPy's
        return lambda a, b: (a != b) & ~unordered(a, b)
    if name.endswith("u"):
        inner = COMPARE[name[:-1]]
        return lambda a, b: inner(a, b) | unordered(a, b)
    return COMPARE[name]


@instruction("setp")
def decode_setp(ins):
    kind, element = ins.kind, ELEMENTS[ins.kind]
    compare = comparison(ins.parts[1], kind in FLOATING)
    combine = COMBINE.get(ins.parts[2])
    a, b = source(ins.operands[1], f"b{BITS[kind]}"), source(ins.operands[2], f"b{BITS[kind]}")
    third = predicate(ins.operands[3]) if combine else None
    puts = [destination(o, "pred") for o in items(ins.operands[0])]
    flushing = "ftz" in ins.parts and kind == "f32"
    if element.packed and len(puts) != 2:
        raise UnsupportedError("a packed comparison gives two predicates")

    def run(chunk, mask):
        left, right = a(chunk), b(chunk)
        if element.packed:
            left, right = full(chunk, left), full(chunk, right)
        left, right = element.load(left), element.load(right)
        if flushing:
            left, right = flush(left), flush(right)
        outcome = compare(left, right)
        # A second predicate is the negation; of a packed comparison it is the result of the upper half.
        results = (outcome[0::2], outcome[1::2]) if element.packed else (outcome, ~outcome)
        for put, result in zip(puts, results, strict=False):
            put(chunk, combine(result, third(chunk)) if combine else result, mask)

    return run


@instruction("testp")
def decode_testp(ins):
    test = {"finite": np.isfinite, "infinite": np.isinf, "notanumber": np.isnan}[ins.parts[1]]
    get, put = source(ins.operands[1], ins.kind), destination(ins.operands[0], "pred")
    return lambda chunk, mask: put(chunk, test(get(chunk)), mask)
