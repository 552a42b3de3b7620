"""Step embedding, once per schedule: from the sinusoids of a step to the biases of every layer (section 3.1).

Compiled without fused multiply-add. In a sum over lanes, fusing would keep each lane's product exact, so that the
lanes' sums would differ in their last bits.
"""

import triton
import triton.language as tl


@triton.jit
def linear(x_ptr, weight_ptr, bias_ptr, y_ptr, inputs, outputs, SILU: tl.constexpr, BLOCK: tl.constexpr):
    """Compute ``y = W x + bias``, then silu if SILU, all fp32, for BLOCK outputs of one row.

    Args:
        x_ptr: [S,inputs].
        weight_ptr: [outputs,inputs].
        bias_ptr: [outputs].
        y_ptr: [S,outputs], written.
        inputs: a multiple of BLOCK.
        outputs: any number.
        SILU: apply silu.
        BLOCK: outputs of a program, and inputs multiplied at a time.
    """
    out = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    row = tl.program_id(1)
    exists = out < outputs
    y = tl.load(bias_ptr + out, mask=exists, other=0.0)
    for k in range(0, inputs, BLOCK):
        column = k + tl.arange(0, BLOCK)
        w = tl.load(weight_ptr + out[:, None] * inputs + column[None, :], mask=exists[:, None], other=0.0)
        y += tl.sum(w * tl.load(x_ptr + row * inputs + column)[None, :], axis=1)
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
    """Fold the step bias d, which is added before the convolution, into the biases of one step and layer after it.

    The programs' dimensions are steps and layers.

    Args:
        d_ptr: [S,N,C] fp32.
        dilated_ptr: [N,3,C,2C] storage, as `residual_block` reads it.
        bias_ptr: [N,3C] fp32: 2C interleaved for the convolution, C for the residual.
        rows_ptr: [S,N,7C] fp32, written: bias + sum_k W_k d, W_0 d, W_2 d, and the residual's bias, plus d if
            IN_RESIDUAL.
        CHANNELS: C.
        DEPTH: input channels multiplied at a time.
        IN_RESIDUAL: the residual connection carries d.
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
