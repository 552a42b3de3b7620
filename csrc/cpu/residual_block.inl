// One residual layer (paper, section 3.1 and figure 2a), fused: dilated convolution, conditioner, gate, projection to
// residual and skip. A block of rows passes through all panels of the convolution, then, with the gated rows still in
// the first-level cache, through all panels of the projection; a panel's weights stay there over the block.
template <class E>
struct BlockRows {  // where one register tile finds its rows
  const E *past, *present, *future, *conditioner;
  E* y;
  float* skip;
  const E* ahead;  // conditioner rows that the next block will want
};

template <int C, class E>
DIFFWAVE_INLINE void gated_convolution(const ResidualBlock<E>& op, const BlockRows<E>& at, int panel, E* gated) {
  const int channels = C ? C : op.channels;
  const E* weight = op.dilated + static_cast<long>(panel) * 2 * kWidth * 3 * channels;
  const float* bias = op.step_bias + panel * 2 * kWidth;
  const long tap = 2L * kWidth * channels;
  Vec acc[kRows][2];
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r) {
    const E* row = at.conditioner + r * 2L * channels + panel * 2 * kWidth;
    acc[r][0] = load(row) + load(bias);
    acc[r][1] = load(row + kWidth) + load(bias + kWidth);
  }
  accumulate<2, C>(acc, at.past, channels, weight, channels);
  accumulate<2, C>(acc, at.present, channels, weight + tap, channels);
  accumulate<2, C>(acc, at.future, channels, weight + 2 * tap, channels);
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r)
    store(gated + r * static_cast<long>(channels) + panel * kWidth, gate<E>(acc[r][0], acc[r][1]));
}

template <int C, class E>
DIFFWAVE_INLINE void projection(const ResidualBlock<E>& op, const BlockRows<E>& at, int panel, const E* gated) {
  const int channels = C ? C : op.channels, c = panel * kWidth;
  const E* weight = op.projection + static_cast<long>(panel) * 2 * kWidth * channels;
  const Vec half = broadcast(0.70710678f), bias = load(op.residual_bias + c);
  Vec acc[kRows][2];
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r) {
    const E* ahead = at.ahead + r * 2L * channels + panel * 2 * kWidth;
    for (size_t byte = 0; byte < 2 * kWidth * sizeof(E); byte += 64)
      __builtin_prefetch(reinterpret_cast<const char*>(ahead) + byte);
    const long row = r * static_cast<long>(channels) + c;
    acc[r][0] = fma(load(at.present + row), half, bias);
    acc[r][1] = load(op.skip_start ? op.skip_start + c : at.skip + row);
  }
  accumulate<2, C>(acc, gated, channels, weight, channels);
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r) {
    const long row = r * static_cast<long>(channels) + c;
    store(at.y + row, acc[r][0]);
    store(at.skip + row, acc[r][1]);
  }
}

template <int C, class E>
void residual_block_of(const ResidualBlock<E>& op, Rows rows) {
  constexpr int kTiles = kBlockRows / kRows;
  const long channels = C ? C : op.channels;
  const int panels = static_cast<int>(channels) / kWidth;
  for (long begin = rows.begin; begin < rows.end; begin += kBlockRows) {
    const bool last = begin + kBlockRows >= rows.end;
    const Ring<E>& next = last ? op.next_conditioner : op.conditioner;
    const long shift = last ? op.next_begin - begin : kBlockRows;
    BlockRows<E> at[kTiles];
    long time[kTiles];
    int count = 0;
    for (long t = begin; t < std::min(begin + kBlockRows, rows.end); t += kRows) {
      if (outside(t, rows.length)) {
        extend(op.y, t, rows.length, op.edges);
        continue;
      }
      E* y = op.y.at(t);
      if (straddles(t, rows.length)) y = op.scratch + (kBlockRows + (t < 0 ? 0 : kGuard)) * channels;
      time[count] = t;
      at[count++] = {
          op.x.at(t - op.dilation),        op.x.at(t), op.x.at(t + op.dilation), op.conditioner.at(t), y, op.skip.at(t),
          next.at(std::max(t + shift, 0L))};
    }
    for (int panel = 0; panel < panels; ++panel)
      for (int i = 0; i < count; ++i) gated_convolution<C>(op, at[i], panel, op.scratch + i * kRows * channels);
    for (int panel = 0; panel < panels; ++panel)
      for (int i = 0; i < count; ++i) projection<C>(op, at[i], panel, op.scratch + i * kRows * channels);
    for (int i = 0; i < count; ++i) {
      if (straddles(time[i], rows.length))
        keep_inside(op.y, time[i], rows.length, at[i].y);
      else
        op.y.mirror(time[i], kRows);
      op.skip.mirror(time[i], kRows);
      extend(op.y, time[i], rows.length, op.edges);
    }
  }
}

template <class E>
void residual_block(const ResidualBlock<E>& op, Rows rows) {
  switch (op.channels) {
    case 64:
      return residual_block_of<64>(op, rows);
    case 128:
      return residual_block_of<128>(op, rows);
    default:
      return residual_block_of<0>(op, rows);
  }
}
