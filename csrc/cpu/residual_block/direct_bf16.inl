// One residual layer (paper, section 3.1 and figure 2a), fused: dilated convolution, conditioner, gate, projection to
// residual and skip, in bf16; paired_block.inl is that of fp32. block.inl says in which order rows and panels pass.
template <class E>
struct BlockRows {  // where one register tile finds its rows
  const E *past, *present, *future, *conditioner;
  E *gated, *y;
  float* skip;
};

// The register tile at t, the i-th of its block.
template <class E>
DIFFWAVE_INLINE BlockRows<E> rows_of(const ResidualBlock<E>& op, long t, long length, int i) {
  return {op.x.at(t - op.dilation),
          op.x.at(t),
          op.x.at(t + op.dilation),
          op.conditioner.at(t),
          op.scratch + i * kRows * static_cast<long>(op.channels),
          target(op.y, op.scratch, t, length),
          op.skip.at(t)};
}

// A panel's share of what comes from main memory, well before it is wanted: rows of the conditioner, which are read
// once, and the places where this tile's y will be written. Where panels share a line of the conditioner, the first of
// them fetches it, and it is kept in the second-level cache for the others; else it is not worth a place there.
template <class T>
DIFFWAVE_INLINE void fetch_rows(const T* rows, int panel, long channels) {
  constexpr int kKept = 2 * kWidth < kLine<T> ? 2 : 0;
  const long first = panel * 2L * kWidth;
  if (first % kLine<T> != 0) return;
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r)
    for (long c = 0; c < 2 * kWidth; c += kLine<T>) __builtin_prefetch(rows + r * 2L * channels + first + c, 0, kKept);
}

template <class E>
DIFFWAVE_INLINE void fetch_conditioner(const ResidualBlock<E>& op, const BlockRows<E>& at, int panel) {
  fetch_rows(at.conditioner, panel, op.channels);
}

// Those that the next call begins with.
template <class E>
DIFFWAVE_INLINE void fetch_next(const ResidualBlock<E>& op, long t) {
  fetch_rows(op.next_conditioner.at(t), 0, op.channels);
}

template <class E>
DIFFWAVE_INLINE void claim(E* rows, long channels, int panel) {
  const long c = panel * kWidth;
  if (c % kLine<E> != 0) return;
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r) __builtin_prefetch(rows + r * channels + c, 1);
}

// Of one panel: the sums that the gate takes, exponents of two.
template <int C, class E>
DIFFWAVE_INLINE void convolve(const ResidualBlock<E>& op, const BlockRows<E>& at, int panel, Vec (&acc)[kRows][2]) {
  const int channels = C ? C : op.channels;
  const E* weight = op.dilated + static_cast<long>(panel) * 2 * kWidth * 3 * channels;
  const float* bias = op.step_bias + panel * 2 * kWidth;
  const long tap = 2L * kWidth * channels;
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r) {
    const E* row = at.conditioner + r * 2L * channels + panel * 2 * kWidth;
    acc[r][0] = load(row) + load(bias);
    acc[r][1] = load(row + kWidth) + load(bias + kWidth);
  }
  accumulate<2, C>(acc, at.past, channels, weight, channels);
  accumulate<2, C>(acc, at.present, channels, weight + tap, channels);
  accumulate<2, C>(acc, at.future, channels, weight + 2 * tap, channels);
}

template <int C, class E>
DIFFWAVE_INLINE void gated_convolution(const ResidualBlock<E>& op, const BlockRows<E>& at, int panel) {
  const long channels = C ? C : op.channels;
  claim(at.y, channels, panel);
  Vec acc[kRows][2];
  convolve<C>(op, at, panel, acc);
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r) store(at.gated + r * channels + panel * kWidth, gate<E>(acc[r][0], acc[r][1]));
}

template <int C, class E>
DIFFWAVE_INLINE void projection(const ResidualBlock<E>& op, const BlockRows<E>& at, int panel) {
  const int channels = C ? C : op.channels, c = panel * kWidth;
  const E* weight = op.projection + static_cast<long>(panel) * 2 * kWidth * channels;
  const Vec root = broadcast(0.70710678f), bias = load(op.residual_bias + c);
  Vec acc[kRows][2];
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r) {
    const long row = r * static_cast<long>(channels) + c;
    acc[r][0] = fma(load(at.present + row), root, bias);
    acc[r][1] = load(op.skip_start ? op.skip_start + c : at.skip + row);
  }
  accumulate<2, C>(acc, const_cast<const E*>(at.gated), channels, weight, channels);
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r) {
    const long row = r * static_cast<long>(channels) + c;
    store(at.y + row, acc[r][0]);
    store(at.skip + row, acc[r][1]);
  }
}

template <class E>
DIFFWAVE_INLINE void finish(const ResidualBlock<E>& op, const BlockRows<E>& at, long t, long length) {
  finish(op.y, at.y, t, length, op.edges);
  op.skip.mirror(t, kRows);
}

template <class E>
DIFFWAVE_INLINE void pass_by(const ResidualBlock<E>& op, long t, long length) {
  extend(op.y, t, length, op.edges);
}
