// The loops of a direct residual layer over rows and panels, shared by direct_bf16.inl and direct_int8.inl.
//
// A block of up to kBlockRows rows passes through all panels of the dilated convolution, then through all panels of the
// projection while its gated rows are still in the L1 cache. A panel's weights stay in the L1 cache over the block.

// The register tiles of a block that hold rows of the audio.
template <class Block>
struct BlockTiles {
  static constexpr int kTiles = kBlockRows / kRows;
  decltype(tile_rows(std::declval<Block>(), 0, 0, 0)) rows[kTiles];
  int64_t time[kTiles];
  int count = 0;
};

// The register tiles of the block at `begin`. Writes the padding of those outside the audio.
template <class Block>
DIFFWAVE_INLINE BlockTiles<Block> tiles_of(const Block& op, int64_t begin, const Rows& rows) {
  BlockTiles<Block> tiles;
  for (int64_t t = begin; t < std::min(begin + kBlockRows, rows.end); t += kRows) {
    if (outside(t, rows.length)) {
      pad_outside(op, t, rows.length);
      continue;
    }
    tiles.time[tiles.count] = t;
    tiles.rows[tiles.count] = tile_rows(op, t, rows.length, tiles.count);
    ++tiles.count;
  }
  return tiles;
}

// Prefetches the conditioner of the register tile that follows tile i of a panel.
template <class Block>
DIFFWAVE_INLINE void prefetch_after(const Block& op, const Rows& rows, int64_t begin, const BlockTiles<Block>& tiles,
                                    int panels, int panel, int i) {
  if (i + 1 < tiles.count)
    prefetch_conditioner(op, tiles.rows[i + 1], panel);
  else if (panel + 1 < panels)
    prefetch_conditioner(op, tiles.rows[0], panel + 1);
  else if (begin + kBlockRows < rows.end)
    prefetch_conditioner(op, tile_rows(op, begin + kBlockRows, rows.length, 0), 0);
  else
    prefetch_next_conditioner(op, std::max(op.next_begin, int64_t{0}));
}

template <int C, class Block>
void direct_block_for_channels(const Block& op, Rows rows) {
  const int panels = (C ? C : op.channels) / kWidth;
  for (int64_t begin = rows.begin; begin < rows.end; begin += kBlockRows) {
    const BlockTiles<Block> tiles = tiles_of(op, begin, rows);
    for (int panel = 0; panel < panels; ++panel)
      for (int i = 0; i < tiles.count; ++i) {
        prefetch_after(op, rows, begin, tiles, panels, panel, i);
        gated_convolution<C>(op, tiles.rows[i], panel);
      }
    for (int panel = 0; panel < panels; ++panel)
      for (int i = 0; i < tiles.count; ++i) projection<C>(op, tiles.rows[i], panel);
    for (int i = 0; i < tiles.count; ++i) finish(op, tiles.rows[i], tiles.time[i], rows.length);
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
