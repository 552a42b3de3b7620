"""One stage of the mel upsampler: a transposed convolution over time and bands (paper, section 3.2)."""

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
    """Compute ``leaky_relu(conv_transpose2d(in, w[3,2s], bias, (1,s), (1,(s+1)/2), (0,s%2)), 0.4)`` for one tile.

    Two taps in time and three in bands reach every output. Rows past an item's end do not contribute.

    Args:
        in_ptr: fp32, row t and band m of an item at ``item * stride_item + t * stride_time + m * stride_band``.
        weight_ptr: [3,2s] fp32.
        bias_ptr: [1] fp32.
        out_ptr: [B, capacity, BANDS_PADDED], fp32 or storage, written; bands past BANDS become 0.
        lengths_ptr: [B] int32, in samples.
        capacity: rows of an output item, at least s times the rows of the longest input.
        stride_item: elements from an item to the next.
        stride_time: elements from a row to the next.
        stride_band: elements from a band to the next.
        samples_per_row: audio samples of one input row, after all stages.
        stride: s.
        BANDS: mel bands.
        BANDS_PADDED: mel bands, padded to a multiple of 16.
        COLUMNS: BANDS_PADDED rounded up to a power of two.
        ROWS: output rows of a program.
    """
    tile = tl.program_id(0)
    item = tl.program_id(1)
    rows_in = tl.load(lengths_ptr + item) // samples_per_row
    if tile * ROWS >= rows_in * stride:
        return
    rows = tile * ROWS + tl.arange(0, ROWS)
    band = tl.arange(0, COLUMNS)
    source = in_ptr + item.to(tl.int64) * stride_item
    padding = (stride + 1) // 2
    late = (rows + padding) // stride
    phase = rows + padding - late * stride
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    for tap in tl.static_range(2):
        row_in = late - tap
        exists = (row_in >= 0) & (row_in < rows_in)
        for k in tl.static_range(3):
            m = band + 1 - k
            inside = exists[:, None] & ((m >= 0) & (m < BANDS))[None, :]
            value = tl.load(source + row_in[:, None] * stride_time + m[None, :] * stride_band, mask=inside, other=0.0)
            total += value * tl.load(weight_ptr + k * 2 * stride + phase + tap * stride)[:, None]
    total += tl.load(bias_ptr)
    total = tl.where(total >= 0.0, total, 0.4 * total)
    total = tl.where((band < BANDS)[None, :], total, 0.0).to(out_ptr.dtype.element_ty)
    offsets = (item.to(tl.int64) * capacity + rows)[:, None] * BANDS_PADDED + band[None, :]
    tl.store(out_ptr + offsets, total, mask=(rows < rows_in * stride)[:, None] & (band < BANDS_PADDED)[None, :])
