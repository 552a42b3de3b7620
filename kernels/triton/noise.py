"""Noise as a function of (seed, step, sample), bit for bit that of `engine.diffusion.noise`.

Kernels that draw noise are compiled without fused multiply-add, because every operation of the definition rounds.
"""

import triton
import triton.language as tl


@triton.jit
def log_uniform(word):
    """Compute ``ln(word / 2^32)`` with the polynomial of Cephes' logf; a word of 0 counts as 1."""
    value = tl.maximum(word, 1).to(tl.float32)
    bits = value.to(tl.int32, bitcast=True)
    exponent = (bits >> 23) - (126 + 32)
    mantissa = ((bits & 0x007FFFFF) | 0x3F000000).to(tl.float32, bitcast=True)
    low = mantissa < 0.70710678
    e = (exponent - tl.where(low, 1, 0)).to(tl.float32)
    m = tl.where(low, mantissa + mantissa, mantissa) - 1.0
    z = m * m
    y = 7.0376836292e-2 * m + -1.1514610310e-1
    y = y * m + 1.1676998740e-1
    y = y * m + -1.2420140846e-1
    y = y * m + 1.4249322787e-1
    y = y * m + -1.6668057665e-1
    y = y * m + 2.0000714765e-1
    y = y * m + -2.4999993993e-1
    y = y * m + 3.3333331174e-1
    y = y * m * z
    y = y + e * -2.12194440e-4
    y = y + -0.5 * z
    return (m + y) + e * 0.693359375


@triton.jit
def box_muller(radius_word, angle_word):
    """Turn two uniform words into two independent standard normal values."""
    radius = tl.sqrt_rn(-2.0 * log_uniform(radius_word))
    phi = ((angle_word & 0x1FFFFFFF) >> 5).to(tl.int32).to(tl.float32) * 4.6813380e-08  # pi/4 * 2^-24
    z = phi * phi
    s = -1.9515295891e-4 * z + 8.3321608736e-3
    s = s * z + -1.6666654611e-1
    s = s * z * phi + phi
    c = 2.443315711809948e-5 * z + -1.388731625493765e-3
    c = c * z + 4.166664568298827e-2
    c = c * z * z + -0.5 * z + 1.0
    swap = (angle_word & 0x20000000) != 0
    first = tl.where(swap, s, c)
    second = tl.where(swap, c, s)
    first = tl.where((angle_word & 0x80000000) != 0, -first, first)
    second = tl.where((angle_word & 0x40000000) != 0, -second, second)
    return radius * first, radius * second


@triton.jit
def normal(seed, step, begin, ROWS: tl.constexpr):
    """Compute samples begin .. begin + ROWS - 1 of one item.

    Args:
        seed: int64.
        step: int32.
        begin: int64, a multiple of 4.
        ROWS: a multiple of 4.
    """
    block = begin // 4 + tl.arange(0, ROWS // 4).to(tl.int64)
    low = (block & 0xFFFFFFFF).to(tl.uint32)
    high = (block >> 32).to(tl.uint32)
    w0, w1, w2, w3 = tl.philox(seed, low, high, tl.zeros_like(low) + step.to(tl.uint32), tl.zeros_like(low))
    n0, n1 = box_muller(w0, w1)
    n2, n3 = box_muller(w2, w3)
    return tl.reshape(tl.join(tl.join(n0, n2), tl.join(n1, n3)), (ROWS,))


@triton.jit
def initial_noise(x_ptr, seeds_ptr, begins_ptr, lengths_ptr, capacity, ROWS: tl.constexpr):
    """Compute ``x_T = normal(seed, 0, sample)`` for one tile of one item.

    Args:
        x_ptr: [B,L] fp32, written.
        seeds_ptr: [B] int64.
        begins_ptr: [B] int64, the sample of the item that lies at row 0, a multiple of 4.
        lengths_ptr: [B] int32.
        capacity: L.
        ROWS: samples of a program.
    """
    tile = tl.program_id(0)
    item = tl.program_id(1)
    length = tl.load(lengths_ptr + item)
    if tile * ROWS >= length:
        return
    rows = tile * ROWS + tl.arange(0, ROWS)
    samples = item.to(tl.int64) * capacity + rows
    x = normal(tl.load(seeds_ptr + item), length * 0, tl.load(begins_ptr + item) + tile * ROWS, ROWS)
    tl.store(x_ptr + samples, x, mask=rows < length)
