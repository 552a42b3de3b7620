// The residual layer (paper, section 3.1 and figure 2a) with the dilated convolution by Winograd's F(2,3). For taps g0,
// g1, g2 and inputs a = x(t - d), b = x(t), c = x(t + d), e = x(t + 2d), two outputs of the convolution are
//
//   m1 = g0 (a - c), m2 = (g0 + g1 + g2)/2 (b + c), m3 = (g0 - g1 + g2)/2 (c - b), m4 = g2 (e - b)
//   s(t) = (m2 + m3) + m1, s(t + d) = (m2 - m3) + m4
//
// Network::pack stores the four transformed weights. winograd_pairs.h defines the pairs (t, t + d). This file holds the
// loops; a Policy holds the arithmetic: WinogradFp32 (winograd_fp32.inl), WinogradInt8 and WinogradUnquantized
// (winograd_int8.inl). `half` is 0 for the row t and 1 for the row t + d.
//
// A block of pairs passes through all panels of the convolution, then through all panels of the projection while its
// gated rows are still in cache. A panel's weights of one product stay in the L1 cache over the block.

// Stores m2 + m3 and m2 - m3 of one panel and register tile in scratch.shared.
template <int C, class Policy>
DIFFWAVE_INLINE void shared_products(const typename Policy::Block& op, const typename Policy::Scratch& scratch,
                                     int64_t first, int panel) {
  const int channels = C ? C : op.channels;
  const auto sum = scratch.shared[0] + first * 2 * kWidth, difference = scratch.shared[1] + first * 2 * kWidth;
  using Sum = decltype(load(sum));
  const Sum zero{};
  Sum acc[kRows][2];
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r) acc[r][0] = acc[r][1] = zero;
  add_product<C>(acc, Policy::dilated(op), scratch.transformed, channels, first, panel, 1);
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 2
    for (int v = 0; v < 2; ++v) {
      store(sum + (r * 2 + v) * kWidth, acc[r][v]);
      acc[r][v] = zero;
    }
  add_product<C>(acc, Policy::dilated(op), scratch.transformed, channels, first, panel, 2);
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 2
    for (int v = 0; v < 2; ++v) {
      const int64_t i = (r * 2 + v) * kWidth;
      const Sum m2 = load(sum + i);
      store(sum + i, shared_sum(m2, acc[r][v]));
      store(difference + i, shared_difference(m2, acc[r][v]));
    }
}

template <int C, class Policy>
void winograd_block_for_channels(const typename Policy::Block& op, Rows rows, PairRange pairs) {
  const int panels = (C ? C : op.channels) / kWidth;
  const int64_t from = std::max(rows.begin, int64_t{0}), to = std::min(rows.end, rows.length);
  const typename Policy::Scratch scratch(op.scratch, op.channels);
  const auto conditioner = Policy::conditioner(op);
  typename Policy::Pair block[kBlockPairs];
  while (pairs.begin < pairs.end) {
    const int count = locate_pairs(op, conditioner, from, to, pairs, scratch.discarded, block);
    for (int i = 0; i < count; ++i) Policy::transform_input(op, block[i], scratch, i);
    for (int panel = 0; panel < panels; ++panel) {
      for (int i = 0; i < count; i += kRows) {
        prefetch_conditioner(block + i, panel);
        shared_products<C, Policy>(op, scratch, i, panel);
      }
      for (int half = 0; half < 2; ++half)
        for (int i = 0; i < count; i += kRows)
          if (any_needed(block + i, half)) {
            prefetch_targets(block + i, panel, half);
            Policy::template gated_half<C>(op, scratch, block, i, panel, half);
          }
    }
    for (int panel = 0; panel < panels; ++panel)
      for (int half = 0; half < 2; ++half)
        for (int i = 0; i < count; i += kRows)
          if (any_needed(block + i, half)) Policy::template projected_half<C>(op, scratch, block, i, panel, half);
    for (int i = 0; i < count; ++i)
      for (int half = 0; half < 2; ++half) {
        if (!block[i].needed[half]) continue;
        mirror_row(op.skip, block[i].skip[half]);
        Policy::finish(op, block[i], half, rows.length);
      }
  }
  Policy::pad(op, rows);
}

// C is a template argument for the usual channel counts, so that row offsets become immediates.
template <class Policy>
void winograd_block(const typename Policy::Block& op, Rows rows, PairRange pairs) {
  switch (op.channels) {
    case 64:
      return winograd_block_for_channels<64, Policy>(op, rows, pairs);
    case 128:
      return winograd_block_for_channels<128, Policy>(op, rows, pairs);
    default:
      return winograd_block_for_channels<0, Policy>(op, rows, pairs);
  }
}

// A layer of an int8 network. On tiers that multiply int16, quantized layers use Winograd too; on the others they use
// direct_int8.inl.
template <class E>
void winograd_int8_block(const QuantizedBlock<E>& op, Rows rows, PairRange pairs) {
  if constexpr (kInt16Products)
    if (op.x8.rows) return winograd_block<WinogradInt8<E>>(op, rows, pairs);
  return winograd_block<WinogradUnquantized<E>>(op, rows, pairs);
}
