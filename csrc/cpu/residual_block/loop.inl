// The loops of a direct residual layer over rows and panels, shared by direct_bf16.inl and direct_int8.inl.
//
// A block of up to kBlockRows rows passes through all panels of the dilated convolution, then through all panels of the
// projection while its gated rows are still in the L1 cache. A panel's weights stay in the L1 cache over the block.
template <int C, class Block>
void direct_block_for_channels(const Block& op, Rows rows) {
  constexpr int kTiles = kBlockRows / kRows;
  const int panels = (C ? C : op.channels) / kWidth;
  for (int64_t begin = rows.begin; begin < rows.end; begin += kBlockRows) {
    decltype(tile_rows(op, 0, 0, 0)) tiles[kTiles];
    int64_t time[kTiles];
    int count = 0;
    for (int64_t t = begin; t < std::min(begin + kBlockRows, rows.end); t += kRows) {
      if (outside(t, rows.length)) {
        pad_outside(op, t, rows.length);
        continue;
      }
      time[count] = t;
      tiles[count] = tile_rows(op, t, rows.length, count);
      ++count;
    }
    for (int panel = 0; panel < panels; ++panel)
      for (int i = 0; i < count; ++i) {
        if (i + 1 < count)
          prefetch_conditioner(op, tiles[i + 1], panel);
        else if (panel + 1 < panels)
          prefetch_conditioner(op, tiles[0], panel + 1);
        else if (begin + kBlockRows < rows.end)
          prefetch_conditioner(op, tile_rows(op, begin + kBlockRows, rows.length, 0), 0);
        else
          prefetch_next_conditioner(op, std::max(op.next_begin, int64_t{0}));
        gated_convolution<C>(op, tiles[i], panel);
      }
    for (int panel = 0; panel < panels; ++panel)
      for (int i = 0; i < count; ++i) projection<C>(op, tiles[i], panel);
    for (int i = 0; i < count; ++i) finish(op, tiles[i], time[i], rows.length);
  }
}

// C is a template argument for the usual channel counts, so that row offsets become immediates.
template <class Block>
void direct_block(const Block& op, Rows rows) {
  switch (op.channels) {
    case 64:
      return direct_block_for_channels<64>(op, rows);
    case 128:
      return direct_block_for_channels<128>(op, rows);
    default:
      return direct_block_for_channels<0>(op, rows);
  }
}
