"""PTX types as NumPy types, and the roundings that NumPy lacks.

Arrays of bits are unsigned integers. bfloat16 has no NumPy type: it is the upper half of a float32.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np

UNSIGNED = {8: np.uint8, 16: np.uint16, 32: np.uint32, 64: np.uint64}
SIGNED = {8: np.int8, 16: np.int16, 32: np.int32, 64: np.int64}
FLOATS = {"f16": np.float16, "f32": np.float32, "f64": np.float64}
# Types with several elements, and types that NumPy lacks, are represented by their bits.
NUMPY = {
    **{f"{letter}{bits}": UNSIGNED[bits] for letter in "bu" for bits in UNSIGNED},
    **{f"s{bits}": SIGNED[bits] for bits in SIGNED},
    **FLOATS,
    "bf16": np.uint16,
    "tf32": np.uint32,
    "f16x2": np.uint32,
    "bf16x2": np.uint32,
    "f32x2": np.uint64,
    "pred": np.bool_,
}
BITS = {name: 1 if name == "pred" else np.dtype(kind).itemsize * 8 for name, kind in NUMPY.items()}


def from_bf16(bits):
    """Convert bits of bfloat16 to float32."""
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)


def to_bf16(values):
    """Round float32 to the nearest bfloat16, ties to even, as bits."""
    bits = values.view(np.uint32)
    up = ((bits >> np.uint32(16)) & np.uint32(1)) + np.uint32(0x7FFF)
    rounded = ((bits + up) >> np.uint32(16)).astype(np.uint16)
    return np.where(np.isnan(values), np.uint16(0x7FFF), rounded)


def to_tf32(values, away: bool):
    """Round float32 to the nearest value with 10 bits of fraction, ties away from zero (rna) or to even (rn)."""
    bits = values.view(np.uint32)
    half = np.uint32(0x1000) if away else ((bits >> np.uint32(13)) & np.uint32(1)) + np.uint32(0x0FFF)
    rounded = (bits + half) & np.uint32(0xFFFFE000)
    return np.where(np.isfinite(values), rounded, bits)


def read_tf32(bits):
    """Return the part of a float32 register that a tensor core reads: the upper 19 bits."""
    return (bits & np.uint32(0xFFFFE000)).view(np.float32)


def flush(values):
    """Flush denormal float32 to zero of the same sign (.ftz)."""
    return np.where(np.abs(values) < np.float32(2.0**-126), np.copysign(np.float32(0), values), values)


def odd_sum(a, b):
    """Compute ``a + b`` in float64, rounded to odd. A second rounding to 51 bits or fewer is then correct."""
    total = a + b
    rounded_b = total - a
    error = (a - (total - rounded_b)) + (b - rounded_b)
    bits = total.view(np.int64)
    # A comparison with NaN is false: infinities stay as they are.
    step = np.where((error > 0) == (total > 0), 1, -1)
    inexact = ((error > 0) | (error < 0)) & ((bits & 1) == 0)
    return np.where(inexact, bits + step, bits).view(np.float64)


def odd_float32(values):
    """Round float64 to float32, to odd, for a second rounding to fewer bits."""
    near = values.astype(np.float32)
    bits = near.view(np.int32)
    step = np.where((values > near) == (values > 0), 1, -1).astype(np.int32)
    inexact = (near != values) & np.isfinite(near) & ((bits & 1) == 0)
    return np.where(inexact, bits + step, bits).view(np.float32)


def fma_float32(a, b, c):
    """Compute fma correctly rounded. The product of two float32 is exact in float64; the sum is rounded to odd."""
    return odd_sum(a.astype(np.float64) * b.astype(np.float64), c.astype(np.float64)).astype(np.float32)


def fma_float64(a, b, c):
    """Compute fma correctly rounded in exact arithmetic, one element at a time. It is slow and rarely used."""
    a, b, c = np.broadcast_arrays(a, b, c)
    # A product of finite factors may be infinite in float64 only.
    result = np.where(np.isfinite(a) & np.isfinite(b) & np.isinf(c), c, a * b + c)
    for i in np.flatnonzero(np.isfinite(a) & np.isfinite(b) & np.isfinite(c)):
        exact = Fraction(float(a[i])) * Fraction(float(b[i])) + Fraction(float(c[i]))
        if exact:
            try:
                result[i] = float(exact)
            except OverflowError:
                result[i] = np.inf if exact > 0 else -np.inf
    return result
