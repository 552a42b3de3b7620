"""Arithmetic on integers, floats and packed pairs.

float16 and bfloat16 are computed in float32 and rounded once more. This is correct for +, -, *, / and the square root,
since float32 has more than twice their digits.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from tests.gpu.ptx.decode import destination, full, instruction, source
from tests.gpu.ptx.errors import UnsupportedError
from tests.gpu.ptx.formats import (
    BITS,
    NUMPY,
    SIGNED,
    UNSIGNED,
    flush,
    fma_float32,
    fma_float64,
    from_bf16,
    odd_float32,
    odd_sum,
    to_bf16,
)


class Element(NamedTuple):
    """Conversions between the bits of a register and numbers to compute with."""

    load: Callable[[np.ndarray], np.ndarray]
    store: Callable[[np.ndarray], np.ndarray]
    packed: bool = False


def native(name: str) -> Element:
    kind, bits = NUMPY[name], UNSIGNED[BITS[name]]
    return Element(lambda raw: raw.view(kind), lambda values: values.astype(kind, copy=False).view(bits))


def half(bits: type, packed: bool) -> Element:
    return Element(
        lambda raw: raw.view(np.float16).astype(np.float32),
        lambda values: values.astype(np.float16).view(bits),
        packed,
    )


def brain(bits: type, packed: bool) -> Element:
    return Element(lambda raw: from_bf16(raw.view(np.uint16)), lambda values: to_bf16(values).view(bits), packed)


ELEMENTS = {
    **{name: native(name) for name in NUMPY if name[0] in "bus" and name[1:].isdigit()},
    "f32": native("f32"),
    "f64": native("f64"),
    "f16": half(np.uint16, False),
    "bf16": brain(np.uint16, False),
    "f16x2": half(np.uint32, True),
    "bf16x2": brain(np.uint32, True),
    "f32x2": Element(lambda raw: raw.view(np.float32), lambda values: values.view(np.uint64), True),
}
FLOATING = ("f16", "bf16", "f32", "f64", "f16x2", "bf16x2", "f32x2")


def elementwise(ins, function, kind: str | None = None):
    """Return a handler that applies ``function`` to the operands after the first."""
    kind = kind or ins.kind
    element, raw = ELEMENTS[kind], f"b{BITS[kind]}"
    gets, put = [source(o, raw) for o in ins.operands[1:]], destination(ins.operands[0], narrowest(kind))
    load, store = element.load, element.store
    flushing, saturating = "ftz" in ins.parts and kind in ("f32", "f32x2"), "sat" in ins.parts and kind in FLOATING
    if "xorsign" in ins.parts or any(p in ins.parts for p in ("rz", "rm", "rp")):
        raise UnsupportedError("unsupported rounding mode or modifier")

    def run(chunk, mask):
        values = [load(full(chunk, get(chunk)) if element.packed else get(chunk)) for get in gets]
        if flushing:
            values = [flush(v) for v in values]
        result = function(*values)
        if flushing:
            result = flush(result)
        if saturating:
            result = np.where(result > 0, np.minimum(result, 1), 0).astype(result.dtype)  # NaN and -0 become 0
        put(chunk, store(result), mask)

    return run


def narrowest(kind: str) -> str:
    """Return the type with which a result is extended into a wider register. Only signed integers extend their sign."""
    return kind if kind[0] == "s" else f"b{BITS[kind]}"


def limits(kind: str) -> tuple[int, int]:
    info = np.iinfo(NUMPY[kind])
    return int(info.min), int(info.max)


CARRY = {"add": (1, 0), "addc": (1, 1), "sub": (-1, 0), "subc": (-1, 1)}


@instruction("add", "addc", "sub", "subc")
def decode_add(ins):
    sign, reads_carry = CARRY[ins.name]
    if reads_carry or "cc" in ins.parts:
        return with_carry(ins, lambda a, b: (a, b), sign, reads_carry)
    kind = ins.kind
    if "sat" in ins.parts and kind == "s32":
        low, high = limits(kind)
        return elementwise(ins, lambda a, b: np.clip(a.astype(np.int64) + sign * b.astype(np.int64), low, high))
    if len(ins.parts) > 2 and ins.parts[-2] == "f32" and kind in ("f16", "bf16"):
        return mixed(ins, lambda a, c: a + c if sign > 0 else a - c)
    return elementwise(ins, operator.add if sign > 0 else operator.sub)


def mixed(ins, function):
    """Return a handler of sm_100's mixed forms, such as add.f32.f16.

    The arithmetic is float32. All operands but the last have 16 bits.
    """
    kind = ins.kind
    narrow = [source(o, f"b{BITS[kind]}") for o in ins.operands[1:-1]]
    last, put, load = source(ins.operands[-1], "f32"), destination(ins.operands[0], "b32"), ELEMENTS[kind].load

    def run(chunk, mask):
        values = [load(get(chunk)) for get in narrow]
        put(chunk, function(*values, last(chunk)).astype(np.float32).view(np.uint32), mask)

    return run


def with_carry(ins, prepare, sign: int, reads_carry: int):
    """Return a handler of unsigned 32-bit sums that reads or sets the condition code; for a difference, the borrow."""
    if BITS[ins.kind] != 32:
        raise UnsupportedError("a carry of other than 32 bits")
    gets, put, sets_carry = (
        [source(o, "b32") for o in ins.operands[1:]],
        destination(ins.operands[0], "b32"),
        "cc" in ins.parts,
    )

    def run(chunk, mask):
        a, b = prepare(*[get(chunk) for get in gets])
        carry = chunk.carry.astype(np.int64) if reads_carry else 0
        total = a.astype(np.int64) + sign * (b.astype(np.int64) + carry)
        if sets_carry:
            out = (total >> 32) != 0
            chunk.carry = out if mask is None else np.where(mask, out, chunk.carry)
        put(chunk, (total & 0xFFFFFFFF).astype(np.uint32), mask)

    return run


def high(a, b):
    """Compute the upper half of an integer product."""
    bits = a.dtype.itemsize * 8
    if bits < 64:
        wide = (SIGNED if a.dtype.kind == "i" else UNSIGNED)[2 * bits]
        return ((a.astype(wide) * b.astype(wide)) >> wide(bits)).astype(a.dtype)
    product = [(int(x) * int(y)) >> 64 for x, y in np.broadcast(a, b)]
    return np.array([p % (1 << 64) for p in product], np.uint64).view(a.dtype)


def widened(ins, adds: bool):
    """Return a handler of mul.wide and mad.wide, whose factors have half the width of the result."""
    kind = ins.kind
    bits = 2 * BITS[kind]
    result, wide = f"{kind[0]}{bits}", (SIGNED if kind[0] == "s" else UNSIGNED)[bits]
    a, b = source(ins.operands[1], kind), source(ins.operands[2], kind)
    c, put = source(ins.operands[3], result) if adds else None, destination(ins.operands[0], result)

    def run(chunk, mask):
        product = a(chunk).astype(wide) * b(chunk).astype(wide)
        put(chunk, product + c(chunk) if adds else product, mask)

    return run


@instruction("mul", "mul24")
def decode_mul(ins):
    if ins.name == "mul24":
        raise UnsupportedError("mul24 is not implemented")
    if "wide" in ins.parts:
        return widened(ins, False)
    if ins.kind in FLOATING or "lo" in ins.parts:
        return elementwise(ins, operator.mul)
    return elementwise(ins, high)


@instruction("mad", "madc")
def decode_mad(ins):
    if ins.kind in FLOATING:
        return decode_fma(ins)
    if "wide" in ins.parts:
        return widened(ins, True)
    product = high if "hi" in ins.parts else operator.mul
    if ins.name == "madc" or "cc" in ins.parts:
        kind = NUMPY[ins.kind]
        prepare = lambda a, b, c: (product(a.view(kind), b.view(kind)).view(np.uint32), c)  # noqa: E731
        return with_carry(ins, prepare, 1, ins.name == "madc")
    return elementwise(ins, lambda a, b, c: product(a, b) + c)


def fma_half(a, b, c):
    """Compute fma of 16-bit operands in float32, rounded to odd so that only the rounding to 16 bits counts."""
    return odd_float32(odd_sum(a.astype(np.float64) * b.astype(np.float64), c.astype(np.float64)))


@instruction("fma")
def decode_fma(ins):
    kind = ins.kind
    if len(ins.parts) > 3 and ins.parts[-2] == "f32" and kind in ("f16", "bf16"):
        return mixed(ins, fma_float32)
    function = {"f32": fma_float32, "f32x2": fma_float32, "f64": fma_float64}.get(kind, fma_half)
    if "relu" in ins.parts:
        return elementwise(ins, lambda a, b, c: np.fmax(function(a, b, c), np.float32(0)))
    return elementwise(ins, function)


def truncated_division(a, b):
    """Divide integers, rounding towards zero. Division by zero, unspecified in PTX, gives all ones."""
    nonzero = np.where(b == 0, b.dtype.type(1), b)
    quotient = a // nonzero
    if a.dtype.kind == "i":
        quotient = quotient + ((quotient < 0) & (quotient * nonzero != a)).astype(a.dtype)
    return np.where(b == 0, ~a.dtype.type(0), quotient)


def remainder(a, b):
    return np.where(b == 0, a, np.fmod(a, np.where(b == 0, b.dtype.type(1), b)))


@instruction("div")
def decode_div(ins):
    return elementwise(ins, operator.truediv if ins.kind in FLOATING else truncated_division)


@instruction("rem")
def decode_rem(ins):
    return elementwise(ins, remainder)


def smaller(a, b):
    """Return the minimum. A number is preferred to a NaN; -0 is smaller than +0."""
    return np.where((a == b) & np.signbit(a), a, np.fmin(a, b))


def larger(a, b):
    """Return the maximum; see `smaller`."""
    return np.where((a == b) & ~np.signbit(a), a, np.fmax(a, b))


@instruction("min", "max")
def decode_minmax(ins):
    if ins.kind not in FLOATING:
        return elementwise(ins, np.minimum if ins.name == "min" else np.maximum)
    if "abs" in ins.parts:
        raise UnsupportedError("min or max of magnitudes")
    pick = smaller if ins.name == "min" else larger

    def function(*values):
        result = values[0]
        for value in values[1:]:
            result = pick(result, value)
        if "NaN" in ins.parts:
            result = np.where(np.any([np.isnan(v) for v in np.broadcast_arrays(*values)], 0), np.float32("nan"), result)
        return result

    return elementwise(ins, function)


@instruction("abs")
def decode_abs(ins):
    return elementwise(ins, np.abs)


@instruction("neg")
def decode_neg(ins):
    return elementwise(ins, operator.neg)


@instruction("copysign")
def decode_copysign(ins):
    return elementwise(ins, lambda a, b: np.copysign(b, a))
