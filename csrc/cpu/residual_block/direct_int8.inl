// The residual layer of residual_block.inl with products of bytes, four to an instruction. Sums of products are exact
// in int32. A layer whose input is kept as it is has none, and adds to the skip sum in that sum's unit: in bf16 here,
// in fp32 by pairs (paired_bytes.inl).
template <class E>
struct QuantizedRows : BlockRows<E> {
  const uint8_t *past8, *present8, *future8;
  const int8_t* conditioner8;
  uint8_t *gated8, *y8;
};

template <class E>
DIFFWAVE_INLINE QuantizedRows<E> rows_of(const QuantizedBlock<E>& op, long t, long length, int i) {
  const Ring<uint8_t>& x = op.x8;
  return {rows_of(static_cast<const ResidualBlock<E>&>(op), t, length, i),
          x.rows ? x.at(t - op.dilation) : nullptr,
          x.rows ? x.at(t) : nullptr,
          x.rows ? x.at(t + op.dilation) : nullptr,
          op.conditioner8.rows ? op.conditioner8.at(t) : nullptr,
          op.scratch8 + i * kRows * static_cast<long>(op.channels),
          op.y8.rows ? target(op.y8, op.scratch8, t, length) : nullptr};
}

template <class E>
DIFFWAVE_INLINE void fetch_conditioner(const QuantizedBlock<E>& op, const QuantizedRows<E>& at, int panel) {
  if (at.conditioner8)
    fetch_rows(at.conditioner8, panel, op.channels);
  else
    fetch_rows(at.conditioner, panel, op.channels);
}

template <class E>
DIFFWAVE_INLINE void fetch_next(const QuantizedBlock<E>& op, long t) {
  if (op.next_conditioner8.rows)
    fetch_rows(op.next_conditioner8.at(t), 0, op.channels);
  else
    fetch_rows(op.next_conditioner.at(t), 0, op.channels);
}

template <int C, class E>
DIFFWAVE_INLINE void gated_convolution(const QuantizedBlock<E>& op, const QuantizedRows<E>& at, int panel) {
  const int channels = C ? C : op.channels;
  const long first = panel * 2L * kWidth, tap = 2L * kWidth * channels;
  if (at.y8) claim(at.y8, channels, panel);
  if constexpr (sizeof(E) < sizeof(float))
    if (!op.x8.rows) return gated_convolution<C>(static_cast<const ResidualBlock<E>&>(op), at, panel);
  claim(at.y, channels, panel);
  const int8_t* weight = op.dilated8 + first * 3 * channels;
  const VecInt start0 = load(op.dilated_start + first), start1 = load(op.dilated_start + first + kWidth);
  VecInt acc[kRows][2];
  if (at.conditioner8) {
    const VecInt shift0 = load(op.conditioner_shift + first), shift1 = load(op.conditioner_shift + first + kWidth);
#pragma GCC unroll 12
    for (int r = 0; r < kRows; ++r) {
      const int8_t* row = at.conditioner8 + r * 2L * channels + first;
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
  accumulate<2, C>(acc, at.past8, channels, weight, channels);
  accumulate<2, C>(acc, at.present8, channels, weight + tap, channels);
  accumulate<2, C>(acc, at.future8, channels, weight + 2 * tap, channels);
  store_gated_panel(at.gated8, channels, panel, acc, op.dilated_scale + first, *op.gate);
}

// A panel of a row of the skip sum, before this layer and after it.
template <class E>
DIFFWAVE_INLINE VecInt load_sum(const QuantizedBlock<E>& op, const float* skip, int c) {
  return load((op.sum_start ? op.sum_start : reinterpret_cast<const int32_t*>(skip)) + c);
}

template <class E>
DIFFWAVE_INLINE void store_sum(const QuantizedBlock<E>& op, float* skip, int c, VecInt sums) {
  if (op.sum_scale)
    store(skip + c, to_float(sums) * load(op.sum_scale + c));
  else
    store(reinterpret_cast<int32_t*>(skip) + c, sums);
}

// Of a layer whose input is kept.
template <int C, class E>
DIFFWAVE_INLINE void kept_projection(const QuantizedBlock<E>& op, const QuantizedRows<E>& at, int panel) {
  const int channels = C ? C : op.channels, c = panel * kWidth;
  const E* weight = op.projection + static_cast<long>(panel) * 2 * kWidth * channels;
  const Vec root = broadcast(0.70710678f), bias = load(op.residual_bias + c);
  Vec acc[kRows][2];
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r) {
    acc[r][0] = fma(load(at.present + r * static_cast<long>(channels) + c), root, bias);
    acc[r][1] = broadcast(0.0f);
  }
  accumulate<2, C>(acc, const_cast<const E*>(at.gated), channels, weight, channels);
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r) {
    const long row = r * static_cast<long>(channels);
    store(at.y + row + c, acc[r][0]);
    if (at.y8) store(at.y8 + row + c, acc[r][0] * broadcast(op.y_scale));
    store_sum(op, at.skip + row, c, sum(to_int(acc[r][1]), load_sum(op, at.skip + row, c)));
  }
}

template <int C, class E>
DIFFWAVE_INLINE void projection(const QuantizedBlock<E>& op, const QuantizedRows<E>& at, int panel) {
  if constexpr (sizeof(E) < sizeof(float))
    if (!op.x8.rows) return kept_projection<C>(op, at, panel);
  const int channels = C ? C : op.channels, c = panel * kWidth;
  const int8_t* weight = op.projection8 + static_cast<long>(panel) * 2 * kWidth * channels;
  VecInt acc[kRows][2];
  const VecInt start = load(op.residual_start + c);
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r) {
    acc[r][0] = start;
    acc[r][1] = load_sum(op, at.skip + r * static_cast<long>(channels), c);
  }
  accumulate<2, C, kGatedRows>(acc, const_cast<const uint8_t*>(at.gated8), channels, weight, channels);
  keep_in_registers(acc);
  const Vec root = broadcast(0.70710678f), scale = load(op.projection_scale + c), bias = load(op.residual_bias + c);
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r) {
    const long row = r * static_cast<long>(channels);
    const Vec y = fma(to_float(acc[r][0]), scale, fma(load(at.present + row + c), root, bias));
    store(at.y + row + c, y);
    if (at.y8) store(at.y8 + row + c, y * broadcast(op.y_scale));
    store_sum(op, at.skip + row, c, acc[r][1]);
  }
}

template <class E>
DIFFWAVE_INLINE void finish(const QuantizedBlock<E>& op, const QuantizedRows<E>& at, long t, long length) {
  finish(static_cast<const ResidualBlock<E>&>(op), at, t, length);
  if (at.y8) finish(op.y8, at.y8, t, length, op.edges8);
}

template <class E>
DIFFWAVE_INLINE void pass_by(const QuantizedBlock<E>& op, long t, long length) {
  pass_by(static_cast<const ResidualBlock<E>&>(op), t, length);
  if (op.y8.rows) extend(op.y8, t, length, op.edges8);
}
