"""Local conditioner of every layer: a 1x1 convolution of the upsampled mel (paper, section 3.2)."""

import triton
import triton.language as tl

from engine.kernels.triton.tensor_float import rounded


@triton.jit
def project_conditioner(
    mel_ptr,
    weight_ptr,
    conditioner_ptr,
    lengths_ptr,
    capacity,
    CHANNELS: tl.constexpr,
    BANDS_PADDED: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    DEPTH: tl.constexpr,
    STAGES: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Compute ``W mel_up``, `reference.project_conditioner` without its bias, for one tile of one item and one layer.

    The conditioner does not depend on the diffusion step; it is computed once for all steps. The programs' dimensions
    are tiles, panels of COLUMNS within layers, and items.

    Args:
        mel_ptr: [B,L,BANDS_PADDED] storage, from `upsample_mel`.
        weight_ptr: [N,BANDS_PADDED,2C] storage, W transposed, columns interleaved.
        conditioner_ptr: [N,B,L,2C] storage, written.
        lengths_ptr: [B] int32.
        capacity: L.
        CHANNELS: C.
        BANDS_PADDED: mel bands, padded to a multiple of 16.
        ROWS: samples of a program.
        COLUMNS: columns of a program.
        DEPTH: bands multiplied at a time.
        STAGES: loads in flight.
        PRECISION: Triton's input_precision of the product.
    """
    tile = tl.program_id(0)
    layer = tl.program_id(1) // (2 * CHANNELS // COLUMNS)
    panel = tl.program_id(1) % (2 * CHANNELS // COLUMNS)
    item = tl.program_id(2)
    length = tl.load(lengths_ptr + item)
    if tile * ROWS >= length:
        return
    rows = tile * ROWS + tl.arange(0, ROWS)
    inside = (rows < length)[:, None]
    column = panel * COLUMNS + tl.arange(0, COLUMNS)
    depth = tl.arange(0, DEPTH)
    first = item.to(tl.int64) * capacity
    mel = mel_ptr + first * BANDS_PADDED
    weights = weight_ptr + layer * (BANDS_PADDED * 2 * CHANNELS)
    y = tl.zeros((ROWS, COLUMNS), tl.float32)
    for k in tl.range(0, BANDS_PADDED, DEPTH, num_stages=STAGES):
        x = tl.load(mel + rows[:, None] * BANDS_PADDED + (k + depth)[None, :], mask=inside, other=0.0)
        w = tl.load(weights + (k + depth)[:, None] * (2 * CHANNELS) + column[None, :])
        y = tl.dot(rounded(x, PRECISION), w, y, input_precision=PRECISION)
    out = conditioner_ptr + (layer.to(tl.int64) * tl.num_programs(2) * capacity + first) * (2 * CHANNELS)
    tl.store(
        out + rows[:, None] * (2 * CHANNELS) + column[None, :],
        y.to(conditioner_ptr.dtype.element_ty),
        mask=inside,
    )
