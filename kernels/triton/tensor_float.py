"""What the tensor cores take of a float32: its upper 19 bits."""

import triton
import triton.language as tl


@triton.jit
def rounded(x, PRECISION: tl.constexpr):
    """x to the nearest number of 11 significant bits if it is fp32 and PRECISION "tf32", else x.

    The tensor cores would cut the lower 13 bits off, always towards zero: that costs the bundled voice 21 dB.
    """
    if PRECISION == "tf32" and x.dtype == tl.float32:
        x = ((x.to(tl.int32, bitcast=True) + 4096) & -8192).to(tl.float32, bitcast=True)
    return x
