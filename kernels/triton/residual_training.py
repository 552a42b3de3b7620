"""Training of one residual layer: the forward pass with the values that the gradient needs, and the gradient.

With the input h of a layer and its step bias d, in the notation of `residual_block`::

    u = h + d                                                              saved in storage, operand of the products
    y[l] = sum_k W_k u[l + (k-1) dilation] + base + W_c mel[l]             saved; u is 0 outside
    z = sigmoid(y[gate]) * tanh(y[filter])                                 saved
    next = (h + W_res z + bias_res) * sqrt(1/2)

The skip sum is one product over the z of all layers, after the last layer (`sum_products`). In the backward pass the
gradient of y replaces y (`gate_gradient`), and the gradient of u follows from it (`tap_gradient`). After all layers the
gradients of the weights are sums over rows (`weight_gradient`).

The rows of an item are [L, ...] and contiguous. Gate and filter are not interleaved: columns 0 .. C-1 are the gate's.
Sums are fp32, in an order that depends only on the shapes.
"""

import triton
import triton.language as tl


@triton.jit
def _sigmoid(a):
    return 1.0 / (1.0 + tl.exp(-tl.minimum(tl.maximum(a, -30.0), 30.0)))


@triton.jit
def _activations(gate, filtered):
    """Compute sigmoid(gate) and tanh(filtered)."""
    return _sigmoid(gate), 2.0 * _sigmoid(2.0 * filtered) - 1.0


@triton.jit
def train_layer(
    u_ptr,
    h_ptr,
    mel_ptr,
    base_ptr,
    dilated_ptr,
    mel_weight_ptr,
    projection_ptr,
    bias_ptr,
    next_d_ptr,
    y_ptr,
    z_ptr,
    next_u_ptr,
    length,
    dilation,
    C: tl.constexpr,
    ROWS: tl.constexpr,
    BANDS: tl.constexpr,
    PADDED: tl.constexpr,
    LAST: tl.constexpr,
):
    """Compute the forward pass of one layer for one tile of ROWS samples of one item.

    Args:
        u_ptr: [B,L,C] storage.
        h_ptr: [B,L,C] fp32, replaced by the input of the next layer.
        mel_ptr: [B,L,BANDS] storage, upsampled; ignored if BANDS is 0.
        base_ptr: [B,2C] fp32, the terms of y that are constant along an item.
        dilated_ptr: [3,C,2C] storage, W_k transposed.
        mel_weight_ptr: [BANDS,2C] storage, W_c transposed.
        projection_ptr: [C,C] storage, W_res transposed.
        bias_ptr: [C] fp32.
        next_d_ptr: [B,C] fp32, the step bias of the next layer.
        y_ptr: [B,L,2C] storage, written.
        z_ptr: [B,L,C] storage, written.
        next_u_ptr: [B,L,C] storage, written.
        length: L.
        dilation: dilation in samples.
        C: channels.
        ROWS: samples of a program.
        BANDS: mel bands.
        PADDED: a power of two not below BANDS.
        LAST: no layer follows; next_u and h stay unchanged.
    """
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    item = tl.program_id(1).to(tl.int64)
    inside = (rows < length)[:, None]
    channel = tl.arange(0, C)
    first = item * length
    u_item = u_ptr + first * C
    gate = tl.zeros((ROWS, C), tl.float32)
    filtered = tl.zeros((ROWS, C), tl.float32)
    for tap in tl.static_range(3):
        source = rows + (tap - 1) * dilation
        exists = ((source >= 0) & (source < length))[:, None]
        u = tl.load(u_item + source[:, None] * C + channel[None, :], mask=exists, other=0.0)
        w = dilated_ptr + tap * 2 * C * C + channel[:, None] * (2 * C) + channel[None, :]
        gate = tl.dot(u, tl.load(w), gate, input_precision="ieee")
        filtered = tl.dot(u, tl.load(w + C), filtered, input_precision="ieee")
    if BANDS:
        band = tl.arange(0, PADDED)
        mel = tl.load(
            mel_ptr + first * BANDS + rows[:, None] * BANDS + band[None, :],
            mask=inside & (band < BANDS)[None, :],
            other=0.0,
        )
        w = mel_weight_ptr + band[:, None] * (2 * C) + channel[None, :]
        valid = (band < BANDS)[:, None]
        gate = tl.dot(mel, tl.load(w, mask=valid, other=0.0), gate, input_precision="ieee")
        filtered = tl.dot(mel, tl.load(w + C, mask=valid, other=0.0), filtered, input_precision="ieee")
    base = base_ptr + item * (2 * C) + channel
    gate += tl.load(base)[None, :]
    filtered += tl.load(base + C)[None, :]
    y = y_ptr + first * (2 * C) + rows[:, None] * (2 * C) + channel[None, :]
    tl.store(y, gate.to(y_ptr.dtype.element_ty), mask=inside)
    tl.store(y + C, filtered.to(y_ptr.dtype.element_ty), mask=inside)
    sigmoid, tanh = _activations(gate, filtered)
    z = (sigmoid * tanh).to(z_ptr.dtype.element_ty)
    offsets = first * C + rows[:, None] * C + channel[None, :]
    tl.store(z_ptr + offsets, z, mask=inside)
    if not LAST:
        residual = tl.dot(z, tl.load(projection_ptr + channel[:, None] * C + channel[None, :]), input_precision="ieee")
        residual += tl.load(bias_ptr + channel)[None, :] + tl.load(h_ptr + offsets, mask=inside, other=0.0)
        residual *= 0.7071067811865476
        tl.store(h_ptr + offsets, residual, mask=inside)
        next_u = residual + tl.load(next_d_ptr + item * C + channel)[None, :]
        tl.store(next_u_ptr + offsets, next_u.to(next_u_ptr.dtype.element_ty), mask=inside)


@triton.jit
def gate_gradient(
    residual_ptr,
    skip_ptr,
    y_ptr,
    projection_ptr,
    base_ptr,
    bias_ptr,
    length,
    C: tl.constexpr,
    ROWS: tl.constexpr,
):
    """Replace one tile of y by its gradient.

    Args:
        residual_ptr: [B,L,C] storage, the gradient of W_res z, which is that of next times sqrt(1/2).
        skip_ptr: [B,L,C] storage, the gradient of the skip sum.
        y_ptr: [B,L,2C] storage, updated.
        projection_ptr: [2C,C] storage, W_res above W_skip.
        base_ptr: [B,tiles,2C] fp32, written: the gradient of y, summed over the tile.
        bias_ptr: [B,tiles,C] fp32, written: the gradient of W_res z, summed over the tile.
        length: L.
        C: channels.
        ROWS: samples of a program.
    """
    tile, item = tl.program_id(0), tl.program_id(1).to(tl.int64)
    rows = tile * ROWS + tl.arange(0, ROWS)
    inside = (rows < length)[:, None]
    channel = tl.arange(0, C)
    offsets = item * length * C + rows[:, None] * C + channel[None, :]
    w = projection_ptr + channel[:, None] * C + channel[None, :]
    residual = tl.load(residual_ptr + offsets, mask=inside, other=0.0)
    skip = tl.load(skip_ptr + offsets, mask=inside, other=0.0)
    y = y_ptr + item * length * (2 * C) + rows[:, None] * (2 * C) + channel[None, :]
    gate = tl.load(y, mask=inside, other=0.0).to(tl.float32)
    filtered = tl.load(y + C, mask=inside, other=0.0).to(tl.float32)
    d_z = tl.dot(residual, tl.load(w), input_precision="ieee")
    d_z = tl.dot(skip, tl.load(w + C * C), d_z, input_precision="ieee")
    sigmoid, tanh = _activations(gate, filtered)
    d_gate = d_z * tanh * sigmoid * (1.0 - sigmoid)
    d_filtered = d_z * sigmoid * (1.0 - tanh * tanh)
    tl.store(y, d_gate.to(y_ptr.dtype.element_ty), mask=inside)
    tl.store(y + C, d_filtered.to(y_ptr.dtype.element_ty), mask=inside)
    # Past the item's end residual and skip are 0; hence d_z is 0.
    part = item * tl.num_programs(0) + tile
    tl.store(base_ptr + part * (2 * C) + channel, tl.sum(d_gate, 0))
    tl.store(base_ptr + part * (2 * C) + C + channel, tl.sum(d_filtered, 0))
    tl.store(bias_ptr + part * C + channel, tl.sum(residual.to(tl.float32), 0))


@triton.jit
def tap_gradient(
    y_ptr,
    h_ptr,
    dilated_ptr,
    residual_ptr,
    d_ptr,
    length,
    dilation,
    C: tl.constexpr,
    ROWS: tl.constexpr,
    FIRST: tl.constexpr,
):
    """Compute one tile of the gradients of u, of h and of the residual output of the layer below.

    Args:
        y_ptr: [B,L,2C] storage, the gradient of y.
        h_ptr: [B,L,C] fp32, the gradient of next; replaced by the gradient of h.
        dilated_ptr: [3,2C,C] storage, W_k.
        residual_ptr: [B,L,C] storage, written: the argument of `gate_gradient` for the layer below.
        d_ptr: [B,tiles,C] fp32, written: the gradient of u, summed over the tile.
        length: L.
        dilation: dilation in samples.
        C: channels.
        ROWS: samples of a program.
        FIRST: there is no layer below.
    """
    tile, item = tl.program_id(0), tl.program_id(1).to(tl.int64)
    rows = tile * ROWS + tl.arange(0, ROWS)
    inside = (rows < length)[:, None]
    channel = tl.arange(0, C)
    y_item = y_ptr + item * length * (2 * C)
    d_u = tl.zeros((ROWS, C), tl.float32)
    for tap in tl.static_range(3):
        source = rows - (tap - 1) * dilation
        exists = ((source >= 0) & (source < length))[:, None]
        y = y_item + source[:, None] * (2 * C) + channel[None, :]
        w = dilated_ptr + tap * 2 * C * C + channel[:, None] * C + channel[None, :]
        d_u = tl.dot(tl.load(y, mask=exists, other=0.0), tl.load(w), d_u, input_precision="ieee")
        d_u = tl.dot(tl.load(y + C, mask=exists, other=0.0), tl.load(w + C * C), d_u, input_precision="ieee")
    offsets = item * length * C + rows[:, None] * C + channel[None, :]
    d_h = d_u + 0.7071067811865476 * tl.load(h_ptr + offsets, mask=inside, other=0.0)
    tl.store(h_ptr + offsets, d_h, mask=inside)
    if not FIRST:
        tl.store(residual_ptr + offsets, (d_h * 0.7071067811865476).to(residual_ptr.dtype.element_ty), mask=inside)
    part = item * tl.num_programs(0) + tile
    tl.store(d_ptr + part * C + channel, tl.sum(tl.where(inside, d_u, 0.0), 0))


@triton.jit
def sum_products(
    rows_ptr,
    weights_ptr,
    out_ptr,
    count,
    layers,
    K: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    PADDED: tl.constexpr,
    STAGES: tl.constexpr,
):
    """Compute ``out = sum_n rows[n] weights[n]``: the skip sum, and the gradient of the upsampled mel.

    Args:
        rows_ptr: [N,count,K] storage.
        weights_ptr: [N,K,COLUMNS] storage.
        out_ptr: [count,COLUMNS] fp32, written.
        count: rows.
        layers: N.
        K: inputs.
        ROWS: rows of a program.
        COLUMNS: outputs.
        PADDED: a power of two not below COLUMNS.
        STAGES: loads in flight.
    """
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    inside = (rows < count)[:, None]
    column, k = tl.arange(0, PADDED), tl.arange(0, K)
    valid = (column < COLUMNS)[None, :]
    total = tl.zeros((ROWS, PADDED), tl.float32)
    source = rows_ptr + rows.to(tl.int64)[:, None] * K + k[None, :]
    weights = weights_ptr + k[:, None] * COLUMNS + column[None, :]
    for _ in tl.range(0, layers, num_stages=STAGES):
        w = tl.load(weights, mask=valid, other=0.0)
        total = tl.dot(tl.load(source, mask=inside, other=0.0), w, total, input_precision="ieee")
        source += count * K
        weights += K * COLUMNS
    tl.store(out_ptr + rows.to(tl.int64)[:, None] * COLUMNS + column[None, :], total, mask=inside & valid)


@triton.jit
def weight_gradient(
    a_ptr,
    b_ptr,
    dilations_ptr,
    parts_ptr,
    length,
    TAPS: tl.constexpr,
    WIDTH: tl.constexpr,
    PADDED: tl.constexpr,
    COLUMNS: tl.constexpr,
    BLOCK: tl.constexpr,
    ONE_A: tl.constexpr,
    ONE_B: tl.constexpr,
    DEPTH: tl.constexpr,
    STAGES: tl.constexpr,
):
    """Compute ``parts[i,n,k] = sum_l a[n,i,l + (k-1) dilation]^T b[n,i,l]`` over the rows l of item i; a is 0 outside.

    Args:
        a_ptr: [N,items,L,WIDTH] storage, or [items,L,WIDTH] if ONE_A.
        b_ptr: [N,items,L,COLUMNS] storage, or [items,L,COLUMNS] if ONE_B.
        dilations_ptr: [N] int32.
        parts_ptr: [items,N,TAPS,WIDTH,COLUMNS] fp32, written.
        length: L.
        TAPS: 3 as above, or 1: the middle tap alone.
        WIDTH: columns of a.
        PADDED: a power of two not below WIDTH.
        COLUMNS: columns of b.
        BLOCK: columns of b in a program.
        ONE_A: all layers share a.
        ONE_B: all layers share b.
        DEPTH: rows multiplied at a time.
        STAGES: loads in flight.
    """
    layer, item = tl.program_id(0), tl.program_id(1)
    items = tl.num_programs(1)
    channel, column = tl.arange(0, PADDED), tl.program_id(2) * BLOCK + tl.arange(0, BLOCK)
    valid = (channel < WIDTH)[None, :]
    a_item = a_ptr + (item if ONE_A else layer * items + item).to(tl.int64) * length * WIDTH
    b_item = b_ptr + (item if ONE_B else layer * items + item).to(tl.int64) * length * COLUMNS
    dilation = tl.load(dilations_ptr + layer)
    middle = tl.zeros((PADDED, BLOCK), tl.float32)
    past = tl.zeros((PADDED, BLOCK), tl.float32)
    future = tl.zeros((PADDED, BLOCK), tl.float32)
    for begin in tl.range(0, length, DEPTH, num_stages=STAGES):
        rows = begin + tl.arange(0, DEPTH)
        inside = rows < length
        b = tl.load(b_item + rows[:, None] * COLUMNS + column[None, :], mask=inside[:, None], other=0.0)
        a = tl.load(a_item + rows[:, None] * WIDTH + channel[None, :], mask=inside[:, None] & valid, other=0.0)
        middle = tl.dot(tl.trans(a), b, middle, input_precision="ieee")
        if TAPS == 3:
            source = rows - dilation
            exists = (inside & (source >= 0))[:, None]
            a = tl.load(a_item + source[:, None] * WIDTH + channel[None, :], mask=exists & valid, other=0.0)
            past = tl.dot(tl.trans(a), b, past, input_precision="ieee")
            source = rows + dilation
            exists = (source < length)[:, None]
            a = tl.load(a_item + source[:, None] * WIDTH + channel[None, :], mask=exists & valid, other=0.0)
            future = tl.dot(tl.trans(a), b, future, input_precision="ieee")
    part = parts_ptr + ((item * tl.num_programs(0) + layer).to(tl.int64) * TAPS) * (WIDTH * COLUMNS)
    part += channel[:, None] * COLUMNS + column[None, :]
    valid = (channel < WIDTH)[:, None]
    if TAPS == 3:
        tl.store(part, past, mask=valid)
        tl.store(part + WIDTH * COLUMNS, middle, mask=valid)
        tl.store(part + 2 * WIDTH * COLUMNS, future, mask=valid)
    else:
        tl.store(part, middle, mask=valid)
