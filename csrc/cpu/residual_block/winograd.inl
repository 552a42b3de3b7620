// One residual layer (paper, section 3.1 and figure 2a), fused: dilated convolution by Winograd's F(2,3), conditioner,
// gate, projection to residual and skip. Of the inputs a = x(t - d), b = x(t), c = x(t + d), e = x(t + 2d):
//
//   m1 = w1 (a - c), m2 = w2 (b + c), m3 = w3 (c - b), m4 = w4 (e - b)
//   y(t) = (m2 + m3) + m1, y(t + d) = (m2 - m3) + m4
//
// with the weights of Network::pack. See pairs.h. Here are the loops; what they do with fp32 and with bytes is in
// paired_fp32.inl and paired_bytes.inl.
//
// A block of pairs passes through all panels of the convolution, then, with the gated rows still near, through all
// panels of the projection; a panel's weights of one product stay in the first-level cache over the block.

// m2 + m3 and m2 - m3
template <int C, class How>
DIFFWAVE_INLINE void shared_products(const typename How::Block& op, const typename How::Scratch& scratch, long first,
                                     int panel) {
  const int channels = C ? C : op.channels;
  const auto sum = scratch.shared[0] + first * 2 * kWidth, difference = scratch.shared[1] + first * 2 * kWidth;
  using Sum = decltype(load(sum));
  const Sum zero{};
  Sum acc[kRows][2];
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r) acc[r][0] = acc[r][1] = zero;
  add_product<C>(acc, How::dilated(op), scratch.mixed, channels, first, panel, 1);
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 2
    for (int v = 0; v < 2; ++v) {
      store(sum + (r * 2 + v) * kWidth, acc[r][v]);
      acc[r][v] = zero;
    }
  add_product<C>(acc, How::dilated(op), scratch.mixed, channels, first, panel, 2);
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 2
    for (int v = 0; v < 2; ++v) {
      const long i = (r * 2 + v) * kWidth;
      const Sum m2 = load(sum + i);
      store(sum + i, shared_sum(m2, acc[r][v]));
      store(difference + i, shared_difference(m2, acc[r][v]));
    }
}

template <int C, class How>
void paired_block_of(const typename How::Block& op, Rows rows, Pairs pairs) {
  const int panels = (C ? C : op.channels) / kWidth;
  const long from = std::max(rows.begin, 0L), to = std::min(rows.end, rows.length);
  const typename How::Scratch scratch(op.scratch, op.channels);
  const auto conditioner = How::conditioner(op);
  typename How::At at[kBlockPairs];
  while (pairs.begin < pairs.end) {
    const int count = locate(op, conditioner, from, to, pairs, scratch.unwanted, at);
    for (int i = 0; i < count; ++i) How::mix(op, at[i], scratch, i);
    for (int panel = 0; panel < panels; ++panel) {
      for (int i = 0; i < count; i += kRows) {
        fetch_conditioner(at + i, panel);
        shared_products<C, How>(op, scratch, i, panel);
      }
      for (int half = 0; half < 2; ++half)
        for (int i = 0; i < count; i += kRows)
          if (wants(at + i, half)) {
            claim_targets(at + i, panel, half);
            How::template gated_half<C>(op, scratch, at, i, panel, half);
          }
    }
    for (int panel = 0; panel < panels; ++panel)
      for (int half = 0; half < 2; ++half)
        for (int i = 0; i < count; i += kRows)
          if (wants(at + i, half)) How::template projected_half<C>(op, scratch, at, i, panel, half);
    for (int i = 0; i < count; ++i)
      for (int half = 0; half < 2; ++half) {
        if (!at[i].wanted[half]) continue;
        mirror_row(op.skip, at[i].skip[half]);
        How::finish(op, at[i], half, rows.length);
      }
  }
  How::pad(op, rows);
}

template <class How>
void paired_block(const typename How::Block& op, Rows rows, Pairs pairs) {
  switch (op.channels) {
    case 64:
      return paired_block_of<64, How>(op, rows, pairs);
    case 128:
      return paired_block_of<128, How>(op, rows, pairs);
    default:
      return paired_block_of<0, How>(op, rows, pairs);
  }
}

// With the input of x8, or, without it, of x.
template <class E>
void paired_quantized_block(const QuantizedBlock<E>& op, Rows rows, Pairs pairs) {
  if constexpr (kWords)
    if (op.x8.rows) return paired_block<WordPairs<E>>(op, rows, pairs);
  return paired_block<KeptPairs<E>>(op, rows, pairs);
}
