"""What the network is told about the step, once per schedule: from sinusoids to every layer's biases (section 3.1).

Compiled without fused multiply-add: fused into a sum over lanes, every lane would keep its own product exact and get a
last bit of its own.
"""

import triton
import triton.language as tl


@triton.jit
def linear(x_ptr, weight_ptr, bias_ptr, y_ptr, inputs, outputs, SILU: tl.constexpr, BLOCK: tl.constexpr):
    """``y = W x + bias``, then silu if SILU, all fp32, for BLOCK outputs of one row.

    Args:
        x_ptr: [S,inputs], inputs a multiple of BLOCK.
        weight_ptr: [outputs,inputs].
        bias_ptr: [outputs].
        y_ptr: [S,outputs].
    """
    out = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    row = tl.program_id(1)
    exists = out < outputs
    y = tl.load(bias_ptr + out, mask=exists, other=0.0)
    for k in range(0, inputs, BLOCK):
        at = k + tl.arange(0, BLOCK)
        w = tl.load(weight_ptr + out[:, None] * inputs + at[None, :], mask=exists[:, None], other=0.0)
        y += tl.sum(w * tl.load(x_ptr + row * inputs + at)[None, :], axis=1)
    if SILU:
        y = y / (1.0 + tl.exp(-y))
    tl.store(y_ptr + row * outputs + out, y, mask=exists)


@triton.jit
def fold_step(
    d_ptr,
    dilated_ptr,
    bias_ptr,
    rows_ptr,
    CHANNELS: tl.constexpr,
    DEPTH: tl.constexpr,
    IN_RESIDUAL: tl.constexpr,
):
    """The biases of `residual_block` for one step and layer: the step bias d behind the convolution instead of before.

    Programs: steps, layers.

    Args:
        d_ptr: [S,N,C] fp32.
        dilated_ptr: [N,3,C,2C] storage, as the convolution reads it.
        bias_ptr: [N,3C] fp32: 2C interleaved for the convolution, C for the residual.
        rows_ptr: [S,N,7C] fp32: bias + sum_k W_k d, W_0 d, W_2 d, and the residual's bias, plus d if IN_RESIDUAL.
    """
    step = tl.program_id(0)
    layer = tl.program_id(1)
    layers = tl.num_programs(1)
    column = tl.arange(0, 2 * CHANNELS)
    channel = tl.arange(0, CHANNELS)
    depth = tl.arange(0, DEPTH)
    d_row = d_ptr + (step * layers + layer) * CHANNELS
    weights = dilated_ptr + layer * (6 * CHANNELS * CHANNELS)
    out = rows_ptr + (step * layers + layer) * (7 * CHANNELS)
    total = tl.load(bias_ptr + layer * (3 * CHANNELS) + column)
    for tap in tl.static_range(3):
        product = tl.zeros((2 * CHANNELS,), tl.float32)
        for k in range(0, CHANNELS, DEPTH):
            w = tl.load(weights + (tap * CHANNELS + k + depth)[:, None] * (2 * CHANNELS) + column[None, :])
            product += tl.sum(w.to(tl.float32) * tl.load(d_row + k + depth)[:, None], axis=0)
        total += product
        if tap == 0:
            tl.store(out + 2 * CHANNELS + column, product)
        if tap == 2:
            tl.store(out + 4 * CHANNELS + column, product)
    tl.store(out + column, total)
    residual = tl.load(bias_ptr + layer * (3 * CHANNELS) + 2 * CHANNELS + channel)
    if IN_RESIDUAL:
        residual += tl.load(d_row + channel)
    tl.store(out + 6 * CHANNELS + channel, residual)
