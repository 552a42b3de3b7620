"""Residual block: taps, step bias, conditioner, gate, residual and skip of one layer, fused (paper, figure 2)."""

import triton
import triton.language as tl

from engine.kernels.triton.tensor_float import rounded


@triton.jit
def gated(gate, filtered, APPROXIMATE: tl.constexpr):
    """Compute ``sigmoid(gate) * tanh(filtered)``."""
    if APPROXIMATE:  # two special-function instructions with a relative error of 2^-11, as one rounding to fp16
        half = tl.inline_asm_elementwise(
            "tanh.approx.f32 $0, $1;", "=f,f", [gate * 0.5], dtype=tl.float32, is_pure=True, pack=1
        )
        curve = tl.inline_asm_elementwise(
            "tanh.approx.f32 $0, $1;", "=f,f", [filtered], dtype=tl.float32, is_pure=True, pack=1
        )
        return (0.5 * half + 0.5) * curve
    # Clamped where both functions are saturated, so that the product of the denominators stays finite.
    e = tl.exp(-2.0 * tl.minimum(tl.maximum(filtered, -15.0), 15.0))
    s = tl.exp(-tl.minimum(tl.maximum(gate, -30.0), 30.0))
    return (1.0 - e) / ((1.0 + e) * (1.0 + s))


@triton.jit
def residual_block(
    h_ptr,
    next_ptr,
    skip_ptr,
    conditioner_ptr,
    dilated_ptr,
    projection_ptr,
    bias_ptr,
    lengths_ptr,
    capacity,
    dilation,
    accumulate,
    CHANNELS: tl.constexpr,
    ROWS: tl.constexpr,
    PANEL: tl.constexpr,
    DEPTH: tl.constexpr,
    STAGES: tl.constexpr,
    CONDITIONED: tl.constexpr,
    REFLECT: tl.constexpr,
    APPROXIMATE: tl.constexpr,
    PRECISION: tl.constexpr,
    EARLY: tl.constexpr,
    DEPENDENT: tl.constexpr,
):
    """Compute `reference.residual_block` for one tile of ROWS samples of one item.

    ::

        y[l] = sum_k W_k h[l + (k-1) dilation] + bias + conditioner[l]      h is 0 outside
        z    = sigmoid(y[gate]) * tanh(y[filter])
        next[l], skip[l] = (h[l] + W_res z + bias_res) * sqrt(1/2), skip[l] * accumulate + W_skip z

    The bias includes the step bias d as ``sum_k W_k d``. Within a dilation of an end, a tap outside the audio sees 0
    instead of d; its ``W_k d`` is subtracted there. With reflection every tap sees d.

    Args:
        h_ptr: [B,L,C] storage.
        next_ptr: [B,L,C] storage, written; must not be the same buffer as h.
        skip_ptr: [B,L,C] storage, updated: the skip sum without biases, which the output head adds.
        conditioner_ptr: [B,L,2C] storage, interleaved; ignored unless CONDITIONED.
        dilated_ptr: [3,C,2C] storage, W_k transposed, columns interleaved.
        projection_ptr: [C,2C] storage, residual columns first.
        bias_ptr: [7C] fp32 of this step and layer (`step_embedding.fold_step`): bias + sum_k W_k d, W_0 d and W_2 d,
            2C interleaved each, and C for the residual.
        lengths_ptr: [B] int32.
        capacity: L.
        dilation: dilation in samples.
        accumulate: 0 in the first layer, else 1.
        CHANNELS: C.
        ROWS: samples of a program.
        PANEL: channels gated at a time.
        DEPTH: input channels multiplied at a time.
        STAGES: loads in flight.
        CONDITIONED: whether to add the conditioner.
        REFLECT: whether to reflect h at the ends instead of padding with 0.
        APPROXIMATE: whether to compute the gate with the special-function unit.
        PRECISION: Triton's input_precision of the products.
        EARLY: whether to load the skip sum and the conditioner before the products; requires that PANEL is CHANNELS.
        DEPENDENT: whether this kernel starts while the previous kernel ends; it waits for that end.
    """
    if DEPENDENT:
        tl.extra.cuda.gdc_launch_dependents()
        tl.extra.cuda.gdc_wait()
    tile = tl.program_id(0)
    item = tl.program_id(1)
    length = tl.load(lengths_ptr + item)
    if tile * ROWS >= length:
        return
    rows = tile * ROWS + tl.arange(0, ROWS)
    inside = (rows < length)[:, None]
    accumulated = (rows < length * accumulate)[:, None]
    depth = tl.arange(0, DEPTH)
    column = tl.arange(0, 2 * PANEL)
    channel = tl.arange(0, PANEL)
    first = item.to(tl.int64) * capacity
    h_rows = h_ptr + first * CHANNELS

    offsets = first * CHANNELS + rows[:, None] * CHANNELS + channel[None, :]
    conditions = conditioner_ptr + first * (2 * CHANNELS) + rows[:, None] * (2 * CHANNELS) + column[None, :]
    if EARLY:
        skip_before = tl.load(skip_ptr + offsets, mask=accumulated, other=0.0)
        if CONDITIONED:
            condition = tl.load(conditions, mask=inside, other=0.0)

    gated_panels = ()
    for panel in tl.static_range(CHANNELS // PANEL):
        y = tl.zeros((ROWS, 2 * PANEL), tl.float32)
        for i in tl.range(0, 3 * (CHANNELS // DEPTH), num_stages=STAGES):
            tap = i // (CHANNELS // DEPTH)
            k = (i % (CHANNELS // DEPTH)) * DEPTH
            source = rows + (tap - 1) * dilation
            if REFLECT:
                source = tl.where(source < 0, -source, source)
                source = tl.where(source >= length, 2 * (length - 1) - source, source)
            exists = (source >= 0) & (source < length)
            x = tl.load(h_rows + source[:, None] * CHANNELS + (k + depth)[None, :], mask=exists[:, None], other=0.0)
            w = tl.load(
                dilated_ptr
                + (tap * CHANNELS + k + depth)[:, None] * (2 * CHANNELS)
                + (panel * 2 * PANEL + column)[None, :]
            )
            y = tl.dot(rounded(x, PRECISION), w, y, input_precision=PRECISION)
        columns = panel * 2 * PANEL + column
        if CONDITIONED:
            if not EARLY:
                condition = tl.load(conditions + panel * 2 * PANEL, mask=inside, other=0.0)
            y += condition.to(tl.float32)
        y += tl.load(bias_ptr + columns)[None, :]
        if not REFLECT:
            if (tile * ROWS < dilation) | (tile * ROWS + ROWS > length - dilation):
                past = tl.load(bias_ptr + 2 * CHANNELS + columns)[None, :]
                future = tl.load(bias_ptr + 4 * CHANNELS + columns)[None, :]
                y -= tl.where((rows < dilation)[:, None], past, 0.0)
                y -= tl.where((rows >= length - dilation)[:, None], future, 0.0)
        gate, filtered = tl.split(tl.reshape(y, (ROWS, PANEL, 2)))
        z = gated(gate, filtered, APPROXIMATE).to(h_ptr.dtype.element_ty)
        gated_panels = gated_panels + (rounded(z, PRECISION),)

    for out in tl.range(0, CHANNELS // PANEL, num_stages=1):
        residual = tl.zeros((ROWS, PANEL), tl.float32)
        skip = tl.zeros((ROWS, PANEL), tl.float32)
        for panel in tl.static_range(CHANNELS // PANEL):
            weights = projection_ptr + (panel * PANEL + channel)[:, None] * (2 * CHANNELS)
            weights += (out * PANEL + channel)[None, :]
            residual = tl.dot(gated_panels[panel], tl.load(weights), residual, input_precision=PRECISION)
            skip = tl.dot(gated_panels[panel], tl.load(weights + CHANNELS), skip, input_precision=PRECISION)
        offsets_out = offsets + out * PANEL
        residual += tl.load(bias_ptr + 6 * CHANNELS + out * PANEL + channel)[None, :]
        residual += tl.load(h_ptr + offsets_out, mask=inside, other=0.0).to(tl.float32)
        tl.store(next_ptr + offsets_out, (residual * 0.7071067811865476).to(next_ptr.dtype.element_ty), mask=inside)
        if not EARLY:
            skip_before = tl.load(skip_ptr + offsets_out, mask=accumulated, other=0.0)
        skip += skip_before.to(tl.float32)
        tl.store(skip_ptr + offsets_out, skip.to(skip_ptr.dtype.element_ty), mask=inside)
