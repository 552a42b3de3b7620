"""Output head of the network, fused with one step of the reverse process (paper, figure 2, algorithm 2)."""

import triton
import triton.language as tl

from engine.kernels.triton.noise import normal
from engine.kernels.triton.tensor_float import rounded


@triton.jit
def output_head(
    skip_ptr,
    hidden_ptr,
    hidden_bias_ptr,
    out_ptr,
    out_bias_ptr,
    x_ptr,
    noise_ptr,
    scale_ptr,
    terms_ptr,
    noise_step_ptr,
    seeds_ptr,
    begins_ptr,
    lengths_ptr,
    capacity,
    CHANNELS: tl.constexpr,
    ROWS: tl.constexpr,
    PANEL: tl.constexpr,
    DEPTH: tl.constexpr,
    READ_NOISE: tl.constexpr,
    SCALED: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Compute `reference.output_head` and `reference.noise_update` for one tile of one item.

    ::

        eps = w_out . relu(W skip + bias) + bias_out
        x   = clamp(a x + b eps + sigma z, limit)

    Args:
        skip_ptr: [B,L,C] storage, the skip sum without the layers' biases.
        hidden_ptr: [C,C] storage, W transposed, times sqrt(1/N).
        hidden_bias_ptr: [C] fp32; includes W times the sum of the layers' skip biases.
        out_ptr: [C] fp32.
        out_bias_ptr: [1] fp32.
        x_ptr: [B,L] fp32, updated in place.
        noise_ptr: z [B,L] fp32, read if READ_NOISE.
        scale_ptr: [B,L] fp32, read if SCALED.
        terms_ptr: [4] fp32, a, b, sigma and limit.
        noise_step_ptr: [1] int32, the step in the counter of the noise.
        seeds_ptr: [B] int64.
        begins_ptr: [B] int64, the sample of the item that lies at row 0, a multiple of 4.
        lengths_ptr: [B] int32.
        capacity: L.
        CHANNELS: C.
        ROWS: samples of a program.
        PANEL: hidden channels computed at a time.
        DEPTH: channels multiplied at a time.
        READ_NOISE: read z instead of drawing it.
        SCALED: multiply z by a scale.
        PRECISION: Triton's input_precision of the product.
    """
    tile = tl.program_id(0)
    item = tl.program_id(1)
    length = tl.load(lengths_ptr + item)
    if tile * ROWS >= length:
        return
    rows = tile * ROWS + tl.arange(0, ROWS)
    inside = rows < length
    depth = tl.arange(0, DEPTH)
    panel_columns = tl.arange(0, PANEL)
    first = item.to(tl.int64) * capacity
    samples = first + rows
    skip_rows = skip_ptr + first * CHANNELS + rows[:, None] * CHANNELS
    eps = tl.zeros((ROWS,), tl.float32)
    for panel in tl.static_range(CHANNELS // PANEL):
        columns = panel * PANEL + panel_columns
        hidden = tl.zeros((ROWS, PANEL), tl.float32)
        for k in tl.range(0, CHANNELS, DEPTH, num_stages=1):
            skip = tl.load(skip_rows + (k + depth)[None, :], mask=inside[:, None], other=0.0)
            weight = tl.load(hidden_ptr + (k + depth)[:, None] * CHANNELS + columns[None, :])
            hidden = tl.dot(rounded(skip, PRECISION), weight, hidden, input_precision=PRECISION)
        hidden += tl.load(hidden_bias_ptr + columns)[None, :]
        eps += tl.sum(tl.maximum(hidden, 0.0) * tl.load(out_ptr + columns)[None, :], axis=1)
    eps += tl.load(out_bias_ptr)

    x = tl.load(x_ptr + samples, mask=inside, other=0.0)
    x = tl.load(terms_ptr) * x + tl.load(terms_ptr + 1) * eps
    sigma = tl.load(terms_ptr + 2)
    limit = tl.load(terms_ptr + 3)
    if sigma != 0.0:
        if READ_NOISE:
            z = tl.load(noise_ptr + samples, mask=inside, other=0.0)
        else:
            begin = tl.load(begins_ptr + item) + tile * ROWS
            z = normal(tl.load(seeds_ptr + item), tl.load(noise_step_ptr), begin, ROWS)
        if SCALED:
            z *= tl.load(scale_ptr + samples, mask=inside, other=0.0)
        x += sigma * z
    tl.store(x_ptr + samples, tl.minimum(tl.maximum(x, -limit), limit), mask=inside)
