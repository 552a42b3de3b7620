"""Integer instructions, comparisons and moves of the PTX interpreter against NumPy and Python's integers."""

from __future__ import annotations

import operator

import numpy as np
import pytest

from tests.gpu.ptx.errors import UnsupportedError
from tests.gpu.ptx.formats import NUMPY
from tests.gpu.ptx.harness import evaluate
from tests.gpu.ptx.samples import RNG, elementwise, numbers, samples


def shift_left(a, b):
    return np.where(b > 31, 0, a << (b & 31)).astype(np.uint32)


def c_division(a, b):
    quotient = np.array([0 if y == 0 else abs(int(x)) // abs(int(y)) for x, y in zip(a, b, strict=True)])
    negative = (a < 0) != (b < 0)
    result = np.where(negative, -quotient, quotient)
    return np.where(b == 0, -1, result).astype(np.int64).astype(np.uint32).view(a.dtype)


def high(bits):
    def function(a, b):
        products = [(int(x) * int(y) >> bits) % (1 << bits) for x, y in zip(a, b, strict=True)]
        return np.array(products, f"u{bits // 8}").view(a.dtype)

    return function


INTEGERS = {
    "add.s32": ("s32", operator.add),
    "add.u64": ("u64", operator.add),
    "add.sat.s32": ("s32", lambda a, b: np.clip(a.astype(np.int64) + b, -(2**31), 2**31 - 1).astype(np.int32)),
    "sub.s32": ("s32", operator.sub),
    "sub.s16": ("s16", operator.sub),
    "mul.lo.s32": ("s32", operator.mul),
    "mul.lo.s64": ("s64", operator.mul),
    "mul.hi.u32": ("u32", high(32)),
    "mul.hi.s32": ("s32", high(32)),
    "mul.hi.u64": ("u64", high(64)),
    "div.s32": ("s32", c_division),
    "div.u32": ("u32", lambda a, b: np.where(b == 0, 2**32 - 1, a // np.maximum(b, 1)).astype(np.uint32)),
    "rem.s32": ("s32", lambda a, b: np.where(b == 0, a, np.fmod(a, np.where(b == 0, 1, b))).astype(np.int32)),
    "min.s32": ("s32", np.minimum),
    "max.u32": ("u32", np.maximum),
    "min.s64": ("s64", np.minimum),
    "and.b32": ("b32", operator.and_),
    "or.b64": ("b64", operator.or_),
    "xor.b32": ("b32", operator.xor),
    "shl.b32": ("b32", shift_left),
    "shr.u32": ("u32", lambda a, b: np.where(b > 31, 0, a >> (b & 31)).astype(np.uint32)),
    "shr.s32": ("s32", lambda a, b: a >> np.minimum(b.view(np.uint32), 31).astype(np.int32)),
}


@pytest.mark.parametrize("name", INTEGERS)
def test_integer(name):
    elementwise(name, *INTEGERS[name])


@pytest.mark.parametrize(("name", "kind", "function"), [
    ("not.b32", "b32", operator.invert),
    ("neg.s32", "s32", operator.neg),
    ("abs.s32", "s32", np.abs),
    ("popc.b32", "b32", lambda a: np.array([bin(x).count("1") for x in a], np.uint32)),
    ("clz.b32", "b32", lambda a: np.array([32 - int(x).bit_length() for x in a], np.uint32)),
    ("brev.b32", "b32", lambda a: np.array([int(f"{x:032b}"[::-1], 2) for x in a], np.uint32)),
])  # fmt: skip
def test_one_operand(name, kind, function):
    elementwise(name, kind, function, 1)


@pytest.mark.parametrize(("name", "kind"), [("mul.wide.s32", "s32"), ("mul.wide.u32", "u32"), ("mul.wide.s16", "s16")])
def test_wide_product(name, kind):
    wide = {"s32": "s64", "u32": "u64", "s16": "s32"}[kind]
    elementwise(name, kind, lambda a, b: a.astype(NUMPY[wide]) * b.astype(NUMPY[wide]), to=wide)


def test_multiply_add_of_integers():
    a, b, c = samples("s32", 300, 3)
    got = evaluate("mad.lo.s32 $0, $1, $2, $3;", "s32", ("s32", a), ("s32", b), ("s32", c))
    np.testing.assert_array_equal(got, a * b + c)
    got = evaluate("mad.wide.s32 $0, $1, $2, $3;", "s64", ("s32", a), ("s32", b), ("s64", c.astype(np.int64)))
    np.testing.assert_array_equal(got, a.astype(np.int64) * b + c)


def test_carries():
    a, b = samples("u64", 300, 2)
    body = """{ .reg .b32 a, b, c, d; mov.b64 {a, b}, $1; mov.b64 {c, d}, $2;
        OP.cc.u32 a, a, c; OPc.u32 b, b, d; mov.b64 $0, {a, b}; }"""
    for name, function in (("add", operator.add), ("sub", operator.sub)):
        got = evaluate(body.replace("OP", name), "u64", ("u64", a), ("u64", b))
        np.testing.assert_array_equal(got, function(a, b))
    body = """{ .reg .b32 a, b, c; mov.b64 {a, b}, $1; mov.b64 {c, _}, $2;
        mad.lo.cc.u32 a, a, c, b; madc.hi.u32 b, a, 0, 7; mov.b64 $0, {a, b}; }"""
    low = np.uint64(0xFFFFFFFF)
    total = (a & low) * (b & low) % np.uint64(2**32) + (a >> np.uint64(32))
    expected = (total & low) | (((total >> np.uint64(32)) + np.uint64(7)) << np.uint64(32))
    np.testing.assert_array_equal(evaluate(body, "u64", ("u64", a), ("u64", b)), expected)


def test_lop3_with_any_table():
    a, b, c = samples("b32", 100, 3)
    for table in (0x00, 0x80, 0x96, 0xE8, 0xCA, 0x1B, 0xFF):
        got = evaluate(f"lop3.b32 $0, $1, $2, $3, {table:#x};", "b32", ("b32", a), ("b32", b), ("b32", c))
        index = [(a >> i & 1) * 4 + (b >> i & 1) * 2 + (c >> i & 1) for i in range(32)]
        expected = sum(((table >> ix.astype(np.uint64)) & 1) << i for i, ix in enumerate(index))
        np.testing.assert_array_equal(got, np.asarray(expected).astype(np.uint32))


def test_prmt():
    a, b, selector = samples("b32", 300, 3)

    def expected(x, y, s):
        pool, result = list(int(x).to_bytes(4, "little") + int(y).to_bytes(4, "little")), 0
        for i in range(4):
            nibble = int(s) >> 4 * i & 15
            byte = pool[nibble & 7]
            result |= (255 * (byte >> 7) if nibble & 8 else byte) << 8 * i
        return result

    got = evaluate("prmt.b32 $0, $1, $2, $3;", "b32", ("b32", a), ("b32", b), ("b32", selector))
    np.testing.assert_array_equal(got, [expected(*row) for row in zip(a, b, selector, strict=True)])


@pytest.mark.parametrize("name", ["shf.l.wrap", "shf.l.clamp", "shf.r.wrap", "shf.r.clamp"])
def test_funnel_shift(name):
    a, b, count = samples("b32", 300, 3)
    count = count % 70

    def expected(low, up, n):
        n = int(n) & 31 if "wrap" in name else min(int(n), 32)
        pair = int(up) << 32 | int(low)
        return (pair << n >> 32 if ".l." in name else pair >> n) & 0xFFFFFFFF

    got = evaluate(f"{name}.b32 $0, $1, $2, $3;", "b32", ("b32", a), ("b32", b), ("b32", count))
    np.testing.assert_array_equal(got, [expected(*row) for row in zip(a, b, count, strict=True)])


@pytest.mark.parametrize("kind", ["u32", "s32", "u64", "s64"])
def test_extract_a_field(kind):
    bits = int(kind[1:])
    (a,) = samples(kind, 900, 1)
    start, length = RNG.integers(0, 70, len(a), np.uint32), RNG.integers(0, 70, len(a), np.uint32)

    def expected(value, start_bit, size):
        value, start_bit, size = int(value) % (1 << bits), int(start_bit), int(size)
        sign = value >> min(start_bit + size - 1, bits - 1) & 1 if kind[0] == "s" and size else 0
        digits = [value >> (start_bit + i) & 1 if i < size and start_bit + i < bits else sign for i in range(bits)]
        return sum(d << i for i, d in enumerate(digits))

    got = evaluate(f"bfe.{kind} $0, $1, $2, $3;", f"u{bits}", (kind, a), ("u32", start), ("u32", length))
    np.testing.assert_array_equal(
        got, np.array([expected(*r) for r in zip(a, start, length, strict=True)], f"u{bits // 8}")
    )


def test_insert_a_field():
    a, b = samples("b32", 900, 2)
    start, length = RNG.integers(0, 40, len(a), np.uint32), RNG.integers(0, 40, len(a), np.uint32)

    def expected(value, base, start_bit, size):
        field = (((1 << int(size)) - 1) << int(start_bit)) & 0xFFFFFFFF
        return int(base) & ~field | (int(value) << int(start_bit)) & field

    got = evaluate("bfi.b32 $0, $1, $2, $3, $4;", "b32", ("b32", a), ("b32", b), ("u32", start), ("u32", length))
    np.testing.assert_array_equal(got, [expected(*row) for row in zip(a, b, start, length, strict=True)])


# Comparisons


ORDERED = {
    "eq": operator.eq,
    "ne": operator.ne,
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
}


@pytest.mark.parametrize("kind", ["s32", "u32", "s64", "f32", "f16", "f64", "bf16"])
def test_comparisons(kind):
    a, b = samples(kind, 300, 2)
    x, y = numbers(kind, a), numbers(kind, b)
    unordered = np.isnan(x) | np.isnan(y) if x.dtype.kind == "f" else np.zeros(len(x), bool)
    for name, function in ORDERED.items():
        expected = function(x, y) & ~unordered
        np.testing.assert_array_equal(
            evaluate(f"setp.{name}.{kind} $0, $1, $2;", "pred", (kind, a), (kind, b)), expected
        )
        if x.dtype.kind == "f":
            got = evaluate(f"setp.{name}u.{kind} $0, $1, $2;", "pred", (kind, a), (kind, b))
            np.testing.assert_array_equal(got, expected | unordered)
    if x.dtype.kind == "f":
        np.testing.assert_array_equal(evaluate(f"setp.nan.{kind} $0, $1, $2;", "pred", (kind, a), (kind, b)), unordered)
        np.testing.assert_array_equal(
            evaluate(f"setp.num.{kind} $0, $1, $2;", "pred", (kind, a), (kind, b)), ~unordered
        )


@pytest.mark.parametrize("name", ["and", "or", "xor"])
def test_comparisons_combine_with_a_predicate(name):
    a, b = samples("s32", 300, 2)
    p = RNG.random(len(a)) < 0.5
    combine = {"and": operator.and_, "or": operator.or_, "xor": operator.xor}[name]
    inputs = (("s32", a), ("s32", b), ("pred", p))
    np.testing.assert_array_equal(evaluate(f"setp.lt.{name}.s32 $0, $1, $2, $3;", "pred", *inputs), combine(a < b, p))
    np.testing.assert_array_equal(
        evaluate(f"setp.lt.{name}.s32 $0|%p9, $1, $2, !$3;", "pred", *inputs), combine(a < b, ~p)
    )
    both = f"setp.lt.{name}.s32 %p9|$0, $1, $2, $3;"
    np.testing.assert_array_equal(evaluate(both, "pred", *inputs), combine(a >= b, p))
    np.testing.assert_array_equal(evaluate("selp.b32 $0, $1, $2, $3;", "s32", *inputs), np.where(p, a, b))
    got = evaluate(f"{name}.pred $0, $1, !$2;", "pred", ("pred", p), ("pred", p[::-1].copy()))
    np.testing.assert_array_equal(got, combine(p, ~p[::-1]))


def test_packing_moves():
    a, b = samples("b32", 200, 2)
    got = evaluate("mov.b64 $0, {$1, $2};", "b64", ("b32", a), ("b32", b))
    np.testing.assert_array_equal(got, a.astype(np.uint64) | b.astype(np.uint64) << np.uint64(32))
    got = evaluate("{ .reg .b16 x, y; mov.b32 {x, y}, $1; mov.b32 $0, {y, x}; }", "b32", ("b32", a))
    np.testing.assert_array_equal(got, a << 16 | a >> 16)


UNKNOWN = (
    "frobnicate.b32 $0, $1;",
    "tcgen05.alloc.b32 $0, $1;",
    "mul24.lo.s32 $0, $1, $1;",
    "add.rz.f32 $0, $1, $1;",
)


@pytest.mark.parametrize("text", UNKNOWN)
def test_unknown_instructions_raise_an_error(text):
    with pytest.raises(UnsupportedError, match=r"PTX line \d+"):
        evaluate(text, "b32", ("b32", np.zeros(1, np.uint32)))
