"""Rounding of float32 to TF32: the upper 19 bits, which are all that the tensor cores read."""

import triton
import triton.language as tl


@triton.jit
def rounded(x, PRECISION: tl.constexpr):
    """Round x to the nearest number of 11 significant bits if it is fp32 and PRECISION is "tf32"; else return x.

    The tensor cores truncate the lower 13 bits towards zero, which costs the bundled voice 21 dB.
    """
    if PRECISION == "tf32" and x.dtype == tl.float32:
        x = ((x.to(tl.int32, bitcast=True) + 4096) & -8192).to(tl.float32, bitcast=True)
    return x
