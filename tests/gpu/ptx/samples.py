"""Operands for the tests of the interpreter, and comparisons of results."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np

from tests.gpu.ptx.formats import NUMPY, from_bf16
from tests.gpu.ptx.harness import evaluate

RNG = np.random.default_rng(0)
EDGES = {
    "f32": [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45, -1e-40, 1.1754944e-38, 3.4028235e38, -1.0, 1.0, 1.0000001, 0.5],
    "f16": [0.0, -0.0, np.inf, -np.inf, np.nan, 6e-8, -5e-5, 65504.0, -1.0, 1.0, 1.001, 2049.0, 0.333],
    "f64": [0.0, -0.0, np.inf, -np.inf, np.nan, 5e-324, 1e308, -1.0, 1.0, 0.1, 3.5, -2.5],
}
# Significant bits, and the exponent of the smallest normal number.
FORMATS = {"f16": (11, -14), "bf16": (8, -126), "f32": (24, -126), "tf32": (11, -126)}


def samples(kind: str, count: int, operands: int) -> list[np.ndarray]:
    """Return every combination of edge values, followed by random values."""
    if kind in EDGES:
        edges = np.array(EDGES[kind], NUMPY[kind])
        random = (RNG.standard_normal((operands, count)) * np.exp2(RNG.integers(-12, 12, (operands, count)))).astype(
            NUMPY[kind]
        )
    elif kind == "bf16":
        edges = np.array([0, 0x8000, 0x7F80, 0xFF80, 0x7FC0, 1, 0x8040, 0x0080, 0x7F7F, 0xBF80, 0x3F80], np.uint16)
        random = RNG.integers(0x3000, 0x4800, (operands, count), np.uint16) | RNG.choice([0, 0x8000], (operands, count))
        random = random.astype(np.uint16)
    else:
        info = np.iinfo(NUMPY[kind])
        edges = np.array([0, 1, 2, 7, info.max, info.min, info.max - 1, info.min + 1, info.max // 3], NUMPY[kind])
        random = RNG.integers(info.min, info.max, (operands, count), NUMPY[kind], endpoint=True)
    combinations = np.array(list(itertools.product(edges, repeat=operands)), edges.dtype).T
    return [np.concatenate(pair) for pair in zip(combinations, random, strict=True)]


def numbers(kind: str, values: np.ndarray) -> np.ndarray:
    return from_bf16(values) if kind == "bf16" else values


def same(got: np.ndarray, expected: np.ndarray, kind: str) -> None:
    """Assert equal bits; any NaN equals a NaN."""
    got, expected = numbers(kind, got), numbers(kind, np.asarray(expected))
    if got.dtype.kind == "f":
        nan = np.isnan(expected)
        np.testing.assert_array_equal(np.isnan(got), nan)
        got, expected = np.where(nan, 0, got), np.where(nan, 0, expected)
        np.testing.assert_array_equal(np.signbit(got), np.signbit(expected))
    np.testing.assert_array_equal(got, expected)


def nearest(exact: Fraction, kind: str) -> float:
    """Round an exact value to the nearest number of a format, ties to even, overflow to infinity."""
    digits, smallest = FORMATS[kind]
    if exact == 0:
        return 0.0
    exponent = len(bin(abs(exact.numerator))) - len(bin(exact.denominator))
    exponent -= abs(exact) < Fraction(2) ** exponent
    unit = Fraction(2) ** (max(exponent, smallest) - digits + 1)
    rounded = round(exact / unit) * unit
    largest = (2 - Fraction(2) ** (1 - digits)) * Fraction(2) ** (15 if kind == "f16" else 127)
    return math.copysign(float(abs(rounded)) if abs(rounded) <= largest else math.inf, exact)


def elementwise(instruction, kind, function, operands=2, to=None):
    values = samples(kind, 512 if operands < 3 else 700, operands)
    got = evaluate(
        f"{instruction} " + ", ".join(f"${i}" for i in range(operands + 1)) + ";",
        to or kind,
        *[(kind, v) for v in values],
    )
    with np.errstate(all="ignore"):
        same(got, function(*values), to or kind)
