// The residual layer of direct_bf16.inl in int8: uint8 rows times int8 weights, four products per lane and instruction.
// Sums of products are exact in int32. Rows are [C] per sample; the zero point of uint8 rows is 128 (kZeroPoint).
//
// A layer that is not quantized computes in bf16 and adds to the int32 skip sum. The fp32 version of this layer is
// WinogradUnquantized (winograd_int8.inl).

// The first row of each operand of a register tile.
template <class E>
struct QuantizedTileRows : TileRows<E> {
  const uint8_t *past8, *present8, *future8;
  const int8_t* conditioner8;
  uint8_t *gated8, *y8;
};

template <class E>
DIFFWAVE_INLINE QuantizedTileRows<E> tile_rows(const QuantizedBlock<E>& op, int64_t t, int64_t length, int i) {
  const Ring<uint8_t>& x = op.x8;
  return {tile_rows(static_cast<const ResidualBlock<E>&>(op), t, length, i),
          x.rows ? x.at(t - op.dilation) : nullptr,
          x.rows ? x.at(t) : nullptr,
          x.rows ? x.at(t + op.dilation) : nullptr,
          op.conditioner8.rows ? op.conditioner8.at(t) : nullptr,
          op.scratch8 + i * kRows * static_cast<int64_t>(op.channels),
          op.y8.rows ? target(op.y8, op.scratch8, t, length) : nullptr};
}

template <class E>
DIFFWAVE_INLINE void prefetch_conditioner(const QuantizedBlock<E>& op, const QuantizedTileRows<E>& tile, int panel) {
  if (tile.conditioner8)
    prefetch_rows(tile.conditioner8, panel, op.channels);
  else
    prefetch_rows(tile.conditioner, panel, op.channels);
}

template <class E>
DIFFWAVE_INLINE void prefetch_next_conditioner(const QuantizedBlock<E>& op, int64_t t) {
  if (op.next_conditioner8.rows)
    prefetch_rows(op.next_conditioner8.at(t), 0, op.channels);
  else
    prefetch_rows(op.next_conditioner.at(t), 0, op.channels);
}

template <int C, class E>
DIFFWAVE_INLINE void gated_convolution(const QuantizedBlock<E>& op, const QuantizedTileRows<E>& tile, int panel) {
  const int channels = C ? C : op.channels;
  const int64_t first = panel * int64_t{2} * kWidth, tap = int64_t{2} * kWidth * channels;
  if (tile.y8) prefetch_for_write(tile.y8, channels, panel);
  if constexpr (sizeof(E) < sizeof(float))
    if (!op.x8.rows) return gated_convolution<C>(static_cast<const ResidualBlock<E>&>(op), tile, panel);
  prefetch_for_write(tile.y, channels, panel);
  const int8_t* weight = op.dilated8 + first * 3 * channels;
  const VecInt start0 = load(op.dilated_start + first), start1 = load(op.dilated_start + first + kWidth);
  VecInt acc[kRows][2];
  if (tile.conditioner8) {
    const VecInt shift0 = load(op.conditioner_shift + first), shift1 = load(op.conditioner_shift + first + kWidth);
#pragma GCC unroll 12
    for (int r = 0; r < kRows; ++r) {
      const int8_t* row = tile.conditioner8 + r * int64_t{2} * channels + first;
      acc[r][0] = add_shifted(load(row), shift0, start0);
      acc[r][1] = add_shifted(load(row + kWidth), shift1, start1);
    }
  } else {
#pragma GCC unroll 12
    for (int r = 0; r < kRows; ++r) {
      acc[r][0] = start0;
      acc[r][1] = start1;
    }
  }
  accumulate<2, C>(acc, tile.past8, channels, weight, channels);
  accumulate<2, C>(acc, tile.present8, channels, weight + tap, channels);
  accumulate<2, C>(acc, tile.future8, channels, weight + 2 * tap, channels);
  store_gated_panel(tile.gated8, channels, panel, acc, op.gate_scale + first, *op.gate);
}

// Loads a panel of the skip sum (int32) before this layer: from sum_start in the first layer.
template <class E>
DIFFWAVE_INLINE VecInt load_sum(const QuantizedBlock<E>& op, const float* skip, int c) {
  return load((op.sum_start ? op.sum_start : reinterpret_cast<const int32_t*>(skip)) + c);
}

// Stores a panel of the skip sum after this layer: as float32 in the last layer.
template <class E>
DIFFWAVE_INLINE void store_sum(const QuantizedBlock<E>& op, float* skip, int c, VecInt sums) {
  if (op.sum_scale)
    store(skip + c, to_float(sums) * load(op.sum_scale + c));
  else
    store(reinterpret_cast<int32_t*>(skip) + c, sums);
}

// The projection of a layer that is not quantized. Its skip outputs are rounded to the unit of the int32 sum.
template <int C, class E>
DIFFWAVE_INLINE void unquantized_projection(const QuantizedBlock<E>& op, const QuantizedTileRows<E>& tile, int panel) {
  const int channels = C ? C : op.channels, c = panel * kWidth;
  const E* weight = op.projection + static_cast<int64_t>(panel) * 2 * kWidth * channels;
  const Vec root = broadcast(kRootHalf), bias = load(op.residual_bias + c);
  Vec acc[kRows][2];
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r) {
    acc[r][0] = fma(load(tile.present + r * static_cast<int64_t>(channels) + c), root, bias);
    acc[r][1] = broadcast(0.0f);
  }
  accumulate<2, C>(acc, const_cast<const E*>(tile.gated), channels, weight, channels);
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r) {
    const int64_t row = r * static_cast<int64_t>(channels);
    store(tile.y + row + c, acc[r][0]);
    if (tile.y8) store(tile.y8 + row + c, acc[r][0] * broadcast(op.y_scale));
    store_sum(op, tile.skip + row, c, sum(to_int(acc[r][1]), load_sum(op, tile.skip + row, c)));
  }
}

template <int C, class E>
DIFFWAVE_INLINE void projection(const QuantizedBlock<E>& op, const QuantizedTileRows<E>& tile, int panel) {
  if constexpr (sizeof(E) < sizeof(float))
    if (!op.x8.rows) return unquantized_projection<C>(op, tile, panel);
  const int channels = C ? C : op.channels, c = panel * kWidth;
  const int8_t* weight = op.projection8 + static_cast<int64_t>(panel) * 2 * kWidth * channels;
  VecInt acc[kRows][2];
  const VecInt start = load(op.residual_start + c);
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r) {
    acc[r][0] = start;
    acc[r][1] = load_sum(op, tile.skip + r * static_cast<int64_t>(channels), c);
  }
  accumulate<2, C, kGatedRows>(acc, const_cast<const uint8_t*>(tile.gated8), channels, weight, channels);
  keep_in_registers(acc);
  const Vec root = broadcast(kRootHalf), scale = load(op.projection_scale + c), bias = load(op.residual_bias + c);
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r) {
    const int64_t row = r * static_cast<int64_t>(channels);
    const Vec y = fma(to_float(acc[r][0]), scale, fma(load(tile.present + row + c), root, bias));
    store(tile.y + row + c, y);
    if (tile.y8) store(tile.y8 + row + c, y * broadcast(op.y_scale));
    store_sum(op, tile.skip + row, c, acc[r][1]);
  }
}

// After all panels: completes the output rows (edges.inl).
template <class E>
DIFFWAVE_INLINE void finish(const QuantizedBlock<E>& op, const QuantizedTileRows<E>& tile, int64_t t, int64_t length) {
  finish(static_cast<const ResidualBlock<E>&>(op), tile, t, length);
  if (tile.y8) finish(op.y8, tile.y8, t, length, op.edges8);
}

// For a register tile outside the audio: only writes padding.
template <class E>
DIFFWAVE_INLINE void pad_outside(const QuantizedBlock<E>& op, int64_t t, int64_t length) {
  pad_outside(static_cast<const ResidualBlock<E>&>(op), t, length);
  if (op.y8.rows) extend(op.y8, t, length, op.edges8);
}
