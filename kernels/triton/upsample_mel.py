"""One stage of the mel upsampler, a transposed convolution over time and bands (paper, section 3.2)."""

import triton
import triton.language as tl


@triton.jit
def upsample_mel(
    in_ptr,
    weight_ptr,
    bias_ptr,
    out_ptr,
    lengths_ptr,
    capacity,
    stride_item,
    stride_time,
    stride_band,
    samples_per_row,
    stride,
    BANDS: tl.constexpr,
    BANDS_PADDED: tl.constexpr,
    COLUMNS: tl.constexpr,
    ROWS: tl.constexpr,
):
    """``leaky_relu(conv_transpose2d(in, w[3,2s], bias, stride (1,s), padding (1,s/2)), 0.4)``, one tile of one item.

    Two taps in time and three in bands reach every output. Rows past an item's end count as absent.

    Args:
        in_ptr: fp32, row t and band m of an item at ``item * stride_item + t * stride_time + m * stride_band``.
        weight_ptr: [3,2s] fp32.
        bias_ptr: [1] fp32.
        out_ptr: [B, capacity, BANDS_PADDED], fp32 or storage; bands past BANDS become 0.
        lengths_ptr: [B] int32, in samples.
        capacity: rows of the output's items, at least s times those of the longest input.
        samples_per_row: audio samples that one input row becomes in the end.
        stride: s, even.
        COLUMNS: BANDS_PADDED rounded up to a power of two.
    """
    tile = tl.program_id(0)
    item = tl.program_id(1)
    rows_in = tl.load(lengths_ptr + item) // samples_per_row
    if tile * ROWS >= rows_in * stride:
        return
    rows = tile * ROWS + tl.arange(0, ROWS)
    band = tl.arange(0, COLUMNS)
    source = in_ptr + item.to(tl.int64) * stride_item
    late = (rows + stride // 2) // stride
    phase = rows + stride // 2 - late * stride
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    for tap in tl.static_range(2):
        at = late - tap
        seen = (at >= 0) & (at < rows_in)
        for k in tl.static_range(3):
            m = band + 1 - k
            known = seen[:, None] & ((m >= 0) & (m < BANDS))[None, :]
            value = tl.load(source + at[:, None] * stride_time + m[None, :] * stride_band, mask=known, other=0.0)
            total += value * tl.load(weight_ptr + k * 2 * stride + phase + tap * stride)[:, None]
    total += tl.load(bias_ptr)
    total = tl.where(total >= 0.0, total, 0.4 * total)
    total = tl.where((band < BANDS)[None, :], total, 0.0).to(out_ptr.dtype.element_ty)
    at_out = (item.to(tl.int64) * capacity + rows)[:, None] * BANDS_PADDED + band[None, :]
    tl.store(out_ptr + at_out, total, mask=(rows < rows_in * stride)[:, None] & (band < BANDS_PADDED)[None, :])
