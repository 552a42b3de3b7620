"""Float instructions and conversions of the PTX interpreter against NumPy, libm and exact arithmetic."""

from __future__ import annotations

import ctypes
import ctypes.util
import operator
from fractions import Fraction

import numpy as np
import pytest
import torch

from tests.gpu.ptx.formats import NUMPY, from_bf16
from tests.gpu.ptx.harness import evaluate, program_text
from tests.gpu.ptx.machine import Machine
from tests.gpu.ptx.parse import parse
from tests.gpu.ptx.samples import FORMATS, RNG, elementwise, nearest, numbers, same, samples

ARITHMETIC = {"add": operator.add, "sub": operator.sub, "mul": operator.mul, "div": operator.truediv}


def flushed(function):
    def flush(x):
        return np.where(np.abs(x) < np.float32(2.0**-126), np.copysign(np.float32(0), x), x)

    return lambda *values: flush(function(*[flush(v) for v in values]))


FLOATS = ("add.f32", "sub.f32", "mul.f32", "div.rn.f32", "add.rn.f64", "mul.f64", "sub.f16", "mul.f16", "add.f16")


@pytest.mark.parametrize("name", FLOATS)
def test_float(name):
    parts = name.split(".")
    elementwise(name, parts[-1], ARITHMETIC[parts[0]])


@pytest.mark.parametrize("name", ["add.ftz.f32", "sub.ftz.f32", "mul.rn.ftz.f32"])
def test_flushing(name):
    elementwise(name, "f32", flushed(ARITHMETIC[name.split(".")[0]]))


@pytest.mark.parametrize("name", ["add", "mul"])
def test_bf16_rounds_once(name):
    def function(a, b):
        results = []
        for x, y in zip(from_bf16(a), from_bf16(b), strict=True):
            with np.errstate(all="ignore"):
                plain = ARITHMETIC[name](x, y)
            finite = np.isfinite(x) and np.isfinite(y)
            exact = ARITHMETIC[name](Fraction(float(x)), Fraction(float(y))) if finite else 0
            results.append(nearest(exact, "bf16") if exact else plain)
        return (np.array(results, np.float32).view(np.uint32) >> 16).astype(np.uint16)

    elementwise(f"{name}.rn.bf16", "bf16", function)


def test_saturation():
    def function(a, b):
        return np.where(np.isnan(a + b), 0, np.clip(a + b, 0, 1)).astype(np.float32) + np.float32(0)

    elementwise("add.sat.f32", "f32", function)


def c_fma(name, kind):
    function = getattr(ctypes.CDLL(ctypes.util.find_library("m")), name)
    function.argtypes, function.restype = [kind] * 3, kind
    return lambda *values: np.array([function(*map(float, row)) for row in zip(*values, strict=True)], values[0].dtype)


def test_fma_rounds_once():
    elementwise("fma.rn.f32", "f32", c_fma("fmaf", ctypes.c_float), 3)
    elementwise("fma.rn.f64", "f64", c_fma("fma", ctypes.c_double), 3)
    # The float64 result is a tie of float32, which the lower bits decide.
    a, b = np.float32([1 + 2**-12, 1 + 2**-12]), np.float32([1 + 2**-12, 1 + 2**-12])
    c = np.float32([2**-70, -(2**-70)])
    got = evaluate("fma.rn.f32 $0, $1, $2, $3;", "f32", ("f32", a), ("f32", b), ("f32", c))
    same(got, c_fma("fmaf", ctypes.c_float)(a, b, c), "f32")


@pytest.mark.parametrize("kind", ["f16", "bf16"])
def test_half_fma_rounds_once(kind):
    def function(*values):
        floats = [numbers(kind, v).astype(np.float64) for v in values]
        plain = floats[0] * floats[1] + floats[2]
        for i in np.flatnonzero(np.isfinite(floats).all(0)):
            a, b, c = (Fraction(float(v[i])) for v in floats)
            if a * b + c:
                plain[i] = nearest(a * b + c, kind)
        return (
            plain.astype(np.float16)
            if kind == "f16"
            else (plain.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
        )

    elementwise(f"fma.rn.{kind}", kind, function, 3)


@pytest.mark.parametrize("kind", ["f16x2", "bf16x2", "f32x2"])
def test_packed_instructions_compute_both_elements(kind):
    element = kind[:-2]
    values = samples(element, 601, 3)
    values = [v[: len(v) // 2 * 2].copy() for v in values]
    for name, operands in (("add.rn", 2), ("mul.rn", 2), ("fma.rn", 3)):
        used = values[:operands]
        text = ", ".join(f"${i}" for i in range(operands + 1))
        apart = evaluate(f"{name}.{element} {text};", element, *[(element, v) for v in used])
        bits = f"u{8 if element == 'f32' else 4}"
        joint = evaluate(f"{name}.{kind} {text};", kind, *[(kind, v.view(bits)) for v in used])
        same(joint.view(apart.dtype), apart, element)


def ptx_min(a, b):
    result = np.fmin(a, b)
    return np.where((a == 0) & (b == 0), np.where(np.signbit(a) | np.signbit(b), -0.0, 0.0).astype(a.dtype), result)


def ptx_max(a, b):
    result = np.fmax(a, b)
    return np.where((a == 0) & (b == 0), np.where(np.signbit(a) & np.signbit(b), -0.0, 0.0).astype(a.dtype), result)


@pytest.mark.parametrize("kind", ["f32", "f16"])
def test_min_and_max(kind):
    elementwise(f"min.{kind}", kind, ptx_min)
    elementwise(f"max.{kind}", kind, ptx_max)
    elementwise(
        f"min.NaN.{kind}", kind, lambda a, b: np.where(np.isnan(a) | np.isnan(b), a.dtype.type("nan"), ptx_min(a, b))
    )


@pytest.mark.parametrize(("name", "function"), [
    ("ex2.approx", np.exp2), ("lg2.approx", np.log2), ("sin.approx", np.sin), ("cos.approx", np.cos),
    ("tanh.approx", np.tanh), ("rcp.approx", np.reciprocal), ("rsqrt.approx", lambda x: 1 / np.sqrt(x)),
    ("sqrt.approx", np.sqrt),
])  # fmt: skip
def test_approximations(name, function):
    (values,) = samples("f32", 500, 1)
    with np.errstate(all="ignore"):
        expected = function(values.astype(np.float64)).astype(np.float32)
    got = evaluate(f"{name}.f32 $0, $1;", "f32", ("f32", values))
    np.testing.assert_allclose(got, expected, rtol=2e-7)


@pytest.mark.parametrize(("name", "function"), [
    ("neg.f32", operator.neg), ("abs.f32", np.abs), ("neg.f16", operator.neg), ("sqrt.rn.f32", np.sqrt),
    ("rcp.rn.f32", lambda a: np.float32(1) / a),
])  # fmt: skip
def test_one_operand(name, function):
    elementwise(name, name[-3:], function, 1)


@pytest.mark.parametrize(
    ("kind", "source_kind"), [("f16", "f32"), ("f32", "f16"), ("f32", "f64"), ("f64", "f32"), ("f16", "f64")]
)
def test_float_to_float(kind, source_kind):
    (values,) = samples(source_kind, 900, 1)
    widening = FORMATS.get(kind, (53,))[0] > FORMATS.get(source_kind, (53,))[0]
    with np.errstate(all="ignore"):
        expected = values.astype(NUMPY[kind])
    same(
        evaluate(f"cvt{'' if widening else '.rn'}.{kind}.{source_kind} $0, $1;", kind, (source_kind, values)),
        expected,
        kind,
    )


def rounded(values, kind):
    return np.array([nearest(Fraction(float(v)), kind) if np.isfinite(v) and v else v for v in values], np.float32)


def ties(digits):
    """Return values half way between two neighbours, slightly above and slightly below."""
    base = (1 + np.arange(64) / 2 ** (digits - 1)).astype(np.float32)
    middle = base + np.float32(2.0**-digits)
    return np.concatenate([middle, np.nextafter(middle, np.float32(9)), np.nextafter(middle, np.float32(0)), -middle])


def test_to_bf16():
    values = np.concatenate([samples("f32", 900, 1)[0], ties(8)])
    expected = (rounded(values, "bf16").view(np.uint32) >> 16).astype(np.uint16)
    same(evaluate("cvt.rn.bf16.f32 $0, $1;", "bf16", ("f32", values)), expected, "bf16")
    same(evaluate("cvt.f32.bf16 $0, $1;", "f32", ("bf16", expected)), rounded(values, "bf16"), "f32")


def test_to_tf32():
    values = np.concatenate([samples("f32", 900, 1)[0], ties(11)])
    values = values[np.abs(np.nan_to_num(values)) < 3e38]
    same(evaluate("cvt.rn.tf32.f32 $0, $1;", "f32", ("f32", values)), rounded(values, "tf32"), "f32")
    away = evaluate("cvt.rna.tf32.f32 $0, $1;", "f32", ("f32", ties(11)))
    middle = np.float32(ties(11)[:64])
    np.testing.assert_array_equal(away[:64], middle + np.float32(2.0**-11))
    np.testing.assert_array_equal(away[64:128], middle + np.float32(2.0**-11))
    np.testing.assert_array_equal(away[128:192], middle - np.float32(2.0**-11))
    np.testing.assert_array_equal(away[192:], -middle - np.float32(2.0**-11))


@pytest.mark.parametrize("kind", ["f16", "bf16"])
def test_to_a_pair(kind):
    upper, lower = samples("f32", 300, 2)
    got = evaluate(f"cvt.rn.{kind}x2.f32 $0, $1, $2;", f"{kind}x2", ("f32", upper), ("f32", lower)).view(np.uint16)
    with np.errstate(all="ignore"):
        for half, values in ((got[0::2], lower), (got[1::2], upper)):
            if kind == "f16":
                same(half.copy().view(np.float16), values.astype(np.float16), "f16")
            else:
                same(half.copy(), (rounded(values, "bf16").view(np.uint32) >> 16).astype(np.uint16), "bf16")
    got = evaluate(f"cvt.rn.satfinite.{kind}x2.f32 $0, $1, $2;", f"{kind}x2", ("f32", upper), ("f32", lower))
    halves = numbers(kind, got.view(np.uint16) if kind == "bf16" else got.view(np.float16))
    assert not np.isinf(halves).any()


INTEGRAL = {"rni": np.rint, "rzi": np.trunc, "rmi": np.floor, "rpi": np.ceil}


@pytest.mark.parametrize("mode", INTEGRAL)
def test_float_to_integer_saturates(mode):
    values = np.concatenate([samples("f32", 500, 1)[0], np.float32([0.5, 1.5, -2.5, 3e9, -3e9, 5e9])])
    for kind in ("s32", "u32", "s16", "s64"):
        info = np.iinfo(NUMPY[kind])

        def expected(v, info=info):
            if np.isnan(v):
                return 0
            whole = float(INTEGRAL[mode](np.float64(v)))
            return (
                max(info.min, min(info.max, int(whole)))
                if np.isfinite(whole)
                else (info.max if whole > 0 else info.min)
            )

        got = evaluate(f"cvt.{mode}.{kind}.f32 $0, $1;", kind, ("f32", values))
        np.testing.assert_array_equal(got, np.array([expected(v) for v in values], NUMPY[kind]))
    got = evaluate(f"cvt.{mode}.f32.f32 $0, $1;", "f32", ("f32", values))
    same(got, INTEGRAL[mode](values), "f32")


def test_integer_conversions():
    (a,) = samples("s32", 300, 1)
    for name, kind, source_kind, expected in (
        ("cvt.s64.s32", "s64", "s32", a.astype(np.int64)),
        ("cvt.u64.u32", "u64", "u32", a.view(np.uint32).astype(np.uint64)),
        ("cvt.u16.u32", "u16", "u32", a.astype(np.uint16)),
        ("cvt.s32.s8", "s32", "s32", a.astype(np.int8).astype(np.int32)),
        ("cvt.u32.u8", "u32", "u32", a.view(np.uint32) & 255),
        ("cvt.sat.s16.s32", "s16", "s32", np.clip(a, -(2**15), 2**15 - 1).astype(np.int16)),
        ("cvt.sat.u32.s32", "u32", "s32", np.maximum(a, 0).astype(np.uint32)),
        ("cvt.rn.f32.s32", "f32", "s32", a.astype(np.float32)),
        ("cvt.rn.f32.u32", "f32", "u32", a.view(np.uint32).astype(np.float32)),
        ("cvt.rn.f64.s32", "f64", "s32", a.astype(np.float64)),
    ):
        got = evaluate(f"{name} $0, $1;", kind, (source_kind, a))
        np.testing.assert_array_equal(got, expected, name)
    got = evaluate("cvt.rz.f32.s32 $0, $1;", "f32", ("s32", a)).astype(np.float64)
    assert (np.abs(got) <= np.abs(a.astype(np.float64))).all()
    assert (np.abs(got - a) < 128).all()


def test_worst_approximations_of_tanh_stay_within_the_manual():
    x = np.concatenate([np.float32([0, -0.0, np.inf, -np.inf, np.nan]), RNG.standard_normal(4091).astype(np.float32)])
    program = parse(
        program_text(
            """mad.wide.u32 %d0, %global, 4, %in0; mad.wide.u32 %d1, %global, 4, %in1;
        ld.global.b32 %r0, [%d0]; tanh.approx.f32 %r0, %r0; st.global.b32 [%d1], %r0;""",
            2,
        )
    )
    results = []
    for worst in (False, True, True):
        machine = Machine(1 << 20, worst_approximations=worst)
        out = machine.empty(4096, torch.float32)
        machine.launch(program, 32, 128, [machine.put(x), out])
        results.append(out.numpy())
    plain, worst, again = results
    np.testing.assert_array_equal(plain, np.tanh(x.astype(np.float64)).astype(np.float32))
    np.testing.assert_array_equal(worst, again)
    assert np.isnan(worst[4])
    np.testing.assert_array_equal(np.signbit(worst[:2]), [False, True])
    assert (worst[:2] == 0).all()
    error = (worst[5:] / np.tanh(x[5:].astype(np.float64)) - 1) * 2**11
    assert 0.99 < error.max() < 1.001
    assert -1.001 < error.min() < -0.99
    assert abs(error.mean()) < 0.05
    assert 0.55 < error.std() < 0.6  # uniformly distributed: 1 / sqrt(3)
