"""Input projection: a 1x1 convolution from the audio to C channels (paper, figure 2)."""

import triton
import triton.language as tl


@triton.jit
def input_projection(
    x_ptr, weight_ptr, bias_ptr, h_ptr, lengths_ptr, capacity, CHANNELS: tl.constexpr, ROWS: tl.constexpr
):
    """Compute ``h = relu(weight x + bias)``, `reference.input_projection`, for one tile of one item.

    Args:
        x_ptr: [B,L] fp32.
        weight_ptr: [C] fp32.
        bias_ptr: [C] fp32.
        h_ptr: [B,L,C] storage, written.
        lengths_ptr: [B] int32.
        capacity: L.
        CHANNELS: C.
        ROWS: samples of a program.
    """
    tile = tl.program_id(0)
    item = tl.program_id(1)
    length = tl.load(lengths_ptr + item)
    if tile * ROWS >= length:
        return
    rows = tile * ROWS + tl.arange(0, ROWS)
    channel = tl.arange(0, CHANNELS)
    first = item.to(tl.int64) * capacity
    x = tl.load(x_ptr + first + rows, mask=rows < length, other=0.0)
    h = x[:, None] * tl.load(weight_ptr + channel)[None, :] + tl.load(bias_ptr + channel)[None, :]
    h = tl.maximum(h, 0.0).to(h_ptr.dtype.element_ty)
    tl.store(h_ptr + first * CHANNELS + rows[:, None] * CHANNELS + channel[None, :], h, mask=(rows < length)[:, None])
