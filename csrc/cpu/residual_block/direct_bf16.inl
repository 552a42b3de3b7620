// The residual layer (paper, section 3.1 and figure 2a) with direct dilated convolution, in bf16:
//
//   s(t) = w0 x(t - dilation) + w1 x(t) + w2 x(t + dilation) + conditioner(t) + step bias
//   gated(t) = sigmoid(s_first(t)) * tanh(s_second(t))
//   y(t) = sqrt(1/2) (x(t) + residual weight * gated(t) + bias), skip(t) += skip weight * gated(t)
//
// loop.inl defines the order of rows and panels. fp32 uses winograd.inl instead. Rows are [C] per sample, those of the
// conditioner [2C] in panel order.

// The first row of each operand of a register tile.
template <class E>
struct TileRows {
  const E *past, *present, *future, *conditioner;
  E *gated, *y;
  float* skip;
};

// The register tile at time t, the i-th of its block.
template <class E>
DIFFWAVE_INLINE TileRows<E> tile_rows(const ResidualBlock<E>& op, int64_t t, int64_t length, int i) {
  return {op.x.at(t - op.dilation),
          op.x.at(t),
          op.x.at(t + op.dilation),
          op.conditioner.at(t),
          op.scratch + i * kRows * static_cast<int64_t>(op.channels),
          target(op.y, op.scratch, t, length),
          op.skip.at(t)};
}

// Prefetches a panel's part of conditioner rows, which come from main memory and are read once. Where several panels
// share a cache line, the first of them fetches it into the L2 cache for the others. Otherwise the line is fetched as
// non-temporal.
template <class T>
DIFFWAVE_INLINE void prefetch_rows(const T* rows, int panel, int64_t channels) {
  constexpr int kLocality = 2 * kWidth < kCacheLine<T> ? 2 : 0;
  const int64_t first = panel * int64_t{2} * kWidth;
  if (first % kCacheLine<T> != 0) return;
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r)
    for (int64_t c = 0; c < 2 * kWidth; c += kCacheLine<T>)
      __builtin_prefetch(rows + r * int64_t{2} * channels + first + c, 0, kLocality);
}

template <class E>
DIFFWAVE_INLINE void prefetch_conditioner(const ResidualBlock<E>& op, const TileRows<E>& tile, int panel) {
  prefetch_rows(tile.conditioner, panel, op.channels);
}

// Prefetches the rows that the next call starts with.
template <class E>
DIFFWAVE_INLINE void prefetch_next_conditioner(const ResidualBlock<E>& op, int64_t t) {
  prefetch_rows(op.next_conditioner.at(t), 0, op.channels);
}

// Prefetches a panel's part of the output rows.
template <class E>
DIFFWAVE_INLINE void prefetch_for_write(E* rows, int64_t channels, int panel) {
  const int64_t c = panel * kWidth;
  if (c % kCacheLine<E> != 0) return;
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r) __builtin_prefetch(rows + r * channels + c, 1);
}

// s of one panel, as exponents of two (gate.inl): acc[r] = s_first | s_second of row r.
template <int C, class E>
DIFFWAVE_INLINE void convolve(const ResidualBlock<E>& op, const TileRows<E>& tile, int panel, Vec (&acc)[kRows][2]) {
  const int channels = C ? C : op.channels;
  const E* weight = op.dilated + static_cast<int64_t>(panel) * 2 * kWidth * 3 * channels;
  const float* bias = op.step_bias + panel * 2 * kWidth;
  const int64_t tap = int64_t{2} * kWidth * channels;
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r) {
    const E* row = tile.conditioner + r * int64_t{2} * channels + panel * 2 * kWidth;
    acc[r][0] = load(row) + load(bias);
    acc[r][1] = load(row + kWidth) + load(bias + kWidth);
  }
  accumulate<2, C>(acc, tile.past, channels, weight, channels);
  accumulate<2, C>(acc, tile.present, channels, weight + tap, channels);
  accumulate<2, C>(acc, tile.future, channels, weight + 2 * tap, channels);
}

template <int C, class E>
DIFFWAVE_INLINE void gated_convolution(const ResidualBlock<E>& op, const TileRows<E>& tile, int panel) {
  const int64_t channels = C ? C : op.channels;
  prefetch_for_write(tile.y, channels, panel);
  Vec acc[kRows][2];
  convolve<C>(op, tile, panel, acc);
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r) store(tile.gated + r * channels + panel * kWidth, gate<E>(acc[r][0], acc[r][1]));
}

template <int C, class E>
DIFFWAVE_INLINE void projection(const ResidualBlock<E>& op, const TileRows<E>& tile, int panel) {
  const int channels = C ? C : op.channels, c = panel * kWidth;
  const E* weight = op.projection + static_cast<int64_t>(panel) * 2 * kWidth * channels;
  const Vec root = broadcast(kRootHalf), bias = load(op.residual_bias + c);
  Vec acc[kRows][2];
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r) {
    const int64_t row = r * static_cast<int64_t>(channels) + c;
    acc[r][0] = fma(load(tile.present + row), root, bias);
    acc[r][1] = load(op.skip_start ? op.skip_start + c : tile.skip + row);
  }
  accumulate<2, C>(acc, const_cast<const E*>(tile.gated), channels, weight, channels);
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r) {
    const int64_t row = r * static_cast<int64_t>(channels) + c;
    store(tile.y + row, acc[r][0]);
    store(tile.skip + row, acc[r][1]);
  }
}

// After all panels: completes the output rows (edges.inl).
template <class E>
DIFFWAVE_INLINE void finish(const ResidualBlock<E>& op, const TileRows<E>& tile, int64_t t, int64_t length) {
  finish(op.y, tile.y, t, length, op.edges);
  op.skip.mirror(t, kRows);
}

// For a register tile outside the audio: only writes padding.
template <class E>
DIFFWAVE_INLINE void pad_outside(const ResidualBlock<E>& op, int64_t t, int64_t length) {
  extend(op.y, t, length, op.edges);
}
