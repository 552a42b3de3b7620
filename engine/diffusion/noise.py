"""Noise as a function of (seed, step, sample): the definition that every backend reproduces.

One seed gives the same noise on every backend and for any chunking, batch or number of threads. No global random
generator is used. `step` is 0 for x_T and n + 1 for the noise that the n-th executed step adds.

1. Philox4x32-10 (Salmon et al., SC 2011) with the key (seed mod 2^32, seed div 2^32) and the counter
   (block mod 2^32, block div 2^32, step, 0), block = sample div 4, gives four 32-bit words.
2. Box-Muller turns words 0 and 1 into the normals of samples 4 block and 4 block + 1, words 2 and 3 into the next two.
   The first word gives the radius, sqrt(-2 ln(word / 2^32)); a word of 0 counts as 1. In the second word, bits 5 to 28
   are an angle in [0, pi/4), bit 29 swaps sine and cosine, bits 31 and 30 are the signs of the first and the second.
3. Logarithm, sine and cosine are Cephes' float32 polynomials, written out below. Every operation is an IEEE float32
   addition, multiplication or square root in this order, never fused, so all backends produce the same bits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.checks.arrays import FloatArray

VERSION = 1  # of this definition: another one gives other audio for the same seed

Counter = npt.NDArray[np.uint64]
Words = npt.NDArray[np.uint32]

_LOW = np.uint64(0xFFFFFFFF)
_LOG = (7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1,
        -1.6668057665e-1, 2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1)  # fmt: skip
_SIN = (-1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1)
_COS = (2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2)


def normal(seed: int, step: int, begin: int, count: int) -> FloatArray:
    """Return standard normal noise of one item, samples begin .. begin + count - 1.

    Args:
        seed: the item's seed, 0 to 2^64 - 1.
        step: 0 for x_T, n + 1 for the noise that the n-th executed step adds.
        begin: the first sample, >= 0.
        count: the number of samples.

    Returns:
        float32 [count].
    """
    first, last = begin // 4, (begin + count + 3) // 4
    block = np.arange(first, last, dtype=np.uint64)
    counter = (block & _LOW, block >> np.uint64(32), np.full_like(block, step), np.zeros_like(block))
    word = philox4x32(counter, (seed & 0xFFFFFFFF, seed >> 32))
    pairs = [*box_muller(word[0], word[1]), *box_muller(word[2], word[3])]
    return np.stack(pairs, axis=1).reshape(-1)[begin - 4 * first :][:count]


def philox4x32(counter: tuple[Counter, Counter, Counter, Counter], key: tuple[int, int]) -> tuple[Words, ...]:
    """Compute four independent 32-bit words for every counter with Philox4x32-10.

    Args:
        counter: four uint64 arrays of one shape, values below 2^32.
        key: two integers below 2^32.

    Returns:
        Four uint32 arrays of that shape.
    """
    (c0, c1, c2, c3), (k0, k1) = counter, key
    for _ in range(10):
        p0, p1 = np.uint64(0xD2511F53) * c0, np.uint64(0xCD9E8D57) * c2
        c0, c2 = (p1 >> np.uint64(32)) ^ c1 ^ np.uint64(k0), (p0 >> np.uint64(32)) ^ c3 ^ np.uint64(k1)
        c1, c3 = p1 & _LOW, p0 & _LOW
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return tuple(word.astype(np.uint32) for word in (c0, c1, c2, c3))


def diffuse(signals: FloatArray, alpha_bar: float, seeds: Sequence[int]) -> FloatArray:
    """Diffuse signals to a noise level in one step (paper, equation 4).

    Args:
        signals: float32 [B, L], x_0.
        alpha_bar: the level, 0 to 1.
        seeds: of eps, one per signal.

    Returns:
        float32 [B, L], sqrt(alpha_bar) x_0 + sqrt(1 - alpha_bar) eps.
    """
    noised = np.empty_like(signals)
    for row, signal, seed in zip(noised, signals, seeds, strict=True):
        row[:] = math.sqrt(alpha_bar) * signal + math.sqrt(1.0 - alpha_bar) * normal(seed, 0, 0, len(signal))
    return noised


def box_muller(radius_word: Words, angle_word: Words) -> tuple[FloatArray, FloatArray]:
    """Turn two uniform words into two independent standard normals.

    Args:
        radius_word: uint32, any shape.
        angle_word: uint32, the same shape.

    Returns:
        Two float32 arrays of that shape.
    """
    radius = np.sqrt(np.float32(-2.0) * _log_uniform(radius_word))
    phi = ((angle_word & np.uint32(0x1FFFFFFF)) >> np.uint32(5)).astype(np.float32) * np.float32(4.6813380e-08)
    z = phi * phi
    sine = _horner(_SIN, z) * z * phi + phi
    cosine = _horner(_COS, z) * z * z + np.float32(-0.5) * z + np.float32(1.0)
    swap = (angle_word & np.uint32(0x20000000)) != 0
    first, second = np.where(swap, sine, cosine), np.where(swap, cosine, sine)
    first = np.where(angle_word & np.uint32(0x80000000), -first, first)
    second = np.where(angle_word & np.uint32(0x40000000), -second, second)
    return radius * first, radius * second


def _log_uniform(word: Words) -> FloatArray:
    """Compute ln(word / 2^32)."""
    bits = np.maximum(word, np.uint32(1)).astype(np.float32).view(np.uint32)
    exponent = (bits >> np.uint32(23)).astype(np.int32) - (126 + 32)
    mantissa = ((bits & np.uint32(0x007FFFFF)) | np.uint32(0x3F000000)).view(np.float32)
    low = mantissa < np.float32(0.70710678)
    e = (exponent - low).astype(np.float32)
    m = np.where(low, mantissa + mantissa, mantissa) - np.float32(1.0)
    z = m * m
    y = _horner(_LOG, m) * m * z
    y = y + e * np.float32(-2.12194440e-4)
    y = y + np.float32(-0.5) * z
    result: FloatArray = (m + y) + e * np.float32(0.693359375)
    return result


def _horner(coefficients: tuple[float, ...], x: FloatArray) -> Any:
    value = np.float32(coefficients[0]) * x + np.float32(coefficients[1])
    for c in coefficients[2:]:
        value = value * x + np.float32(c)
    return value
