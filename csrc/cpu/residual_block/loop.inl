// A residual layer over a range of rows. A block of rows passes through all panels of the convolution, then, with the
// gated rows still in the first-level cache, through all panels of the projection; a panel's weights stay there over
// the block.
template <int C, class Block>
void residual_block_of(const Block& op, Rows rows) {
  constexpr int kTiles = kBlockRows / kRows;
  const int panels = (C ? C : op.channels) / kWidth;
  for (long begin = rows.begin; begin < rows.end; begin += kBlockRows) {
    decltype(rows_of(op, 0, 0, 0)) at[kTiles];
    long time[kTiles];
    int count = 0;
    for (long t = begin; t < std::min(begin + kBlockRows, rows.end); t += kRows) {
      if (outside(t, rows.length)) {
        pass_by(op, t, rows.length);
        continue;
      }
      time[count] = t;
      at[count] = rows_of(op, t, rows.length, count);
      ++count;
    }
    for (int panel = 0; panel < panels; ++panel)
      for (int i = 0; i < count; ++i) {
        if (i + 1 < count)
          fetch_conditioner(op, at[i + 1], panel);
        else if (panel + 1 < panels)
          fetch_conditioner(op, at[0], panel + 1);
        else if (begin + kBlockRows < rows.end)
          fetch_conditioner(op, rows_of(op, begin + kBlockRows, rows.length, 0), 0);
        else
          fetch_next(op, std::max(op.next_begin, 0L));
        gated_convolution<C>(op, at[i], panel);
      }
    for (int panel = 0; panel < panels; ++panel)
      for (int i = 0; i < count; ++i) projection<C>(op, at[i], panel);
    for (int i = 0; i < count; ++i) finish(op, at[i], time[i], rows.length);
  }
}

template <class Block>
void residual_block(const Block& op, Rows rows) {
  switch (op.channels) {
    case 64:
      return residual_block_of<64>(op, rows);
    case 128:
      return residual_block_of<128>(op, rows);
    default:
      return residual_block_of<0>(op, rows);
  }
}
