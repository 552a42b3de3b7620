// The direct residual layer on tile registers (matmul_tiles.inl), for bf16 and int8. The formulas are those of
// direct_bf16.inl and direct_int8.inl.

// Whether rows of channels fill whole tiles, in int8 too.
template <class Block>
bool suits_tiles(const Block& op) {
  return op.channels % kTileInputs<uint8_t> == 0;
}

// The three taps of one panel of the dilated convolution, for two register tiles.
template <class E, class W, class T>
DIFFWAVE_INLINE void multiply_taps(const E* const (&taps)[2][3], const W* weight, int channels, Sums<T>& sums) {
  const int64_t tap = int64_t{2} * kWidth * channels;
  zero_sums();
  for (int i = 0; i < 3; ++i) multiply_pair(taps[0][i], taps[1][i], channels, weight + i * tap, channels);
  store_sums(sums);
}

// bf16 layers, and those of int8 networks that are not quantized.
template <class E>
struct TilesBf16 {
  using Sum = float;
  using Block = ResidualBlock<E>;

  static void convolve(const Block& op, const TileRows<E>& a, const TileRows<E>& b, int panel, Sums<float>& sums) {
    const E* const taps[2][3] = {{a.past, a.present, a.future}, {b.past, b.present, b.future}};
    multiply_taps(taps, op.dilated + panel * int64_t{2} * kWidth * 3 * op.channels, op.channels, sums);
  }

  static void project(const Block& op, const TileRows<E>& a, const TileRows<E>& b, int panel, Sums<float>& sums) {
    const E* const weight = op.projection + panel * int64_t{2} * kWidth * op.channels;
    multiply(const_cast<const E*>(a.gated), const_cast<const E*>(b.gated), op.channels, weight, op.channels, sums);
  }

  static void gate_panel(const Block& op, const TileRows<E>& tile, int panel, const float (&sums)[kRows][2][kWidth]) {
    const int64_t channels = op.channels, first = panel * int64_t{2} * kWidth;
    const Vec bias0 = load(op.step_bias + first), bias1 = load(op.step_bias + first + kWidth);
    for (int r = 0; r < kRows; ++r) {
      const E* row = tile.conditioner + r * 2 * channels + first;
      const Vec s = load(sums[r][0]) + (load(row) + bias0), t = load(sums[r][1]) + (load(row + kWidth) + bias1);
      store(tile.gated + r * channels + panel * kWidth, gate<E>(s, t));
    }
  }

  static void finish_panel(const Block& op, const TileRows<E>& tile, int panel, const float (&sums)[kRows][2][kWidth]) {
    const int c = panel * kWidth;
    const Vec root = broadcast(kRootHalf), bias = load(op.residual_bias + c);
    for (int r = 0; r < kRows; ++r) {
      const int64_t row = r * static_cast<int64_t>(op.channels) + c;
      store(tile.y + row, load(sums[r][0]) + fma(load(tile.present + row), root, bias));
      store(tile.skip + row, load(sums[r][1]) + load(op.skip_start ? op.skip_start + c : tile.skip + row));
    }
  }
};

// Layers of int8 networks that are not quantized: like TilesBf16, but they add to the int32 skip sum.
template <class E>
struct TilesUnquantized : TilesBf16<E> {
  using Block = QuantizedBlock<E>;

  static void finish_panel(const Block& op, const QuantizedTileRows<E>& tile, int panel,
                           const float (&sums)[kRows][2][kWidth]) {
    const int c = panel * kWidth;
    const Vec root = broadcast(kRootHalf), bias = load(op.residual_bias + c), y_scale = broadcast(op.y_scale);
    for (int r = 0; r < kRows; ++r) {
      const int64_t row = r * static_cast<int64_t>(op.channels);
      const Vec y = load(sums[r][0]) + fma(load(tile.present + row + c), root, bias);
      store(tile.y + row + c, y);
      if (tile.y8) store(tile.y8 + row + c, y * y_scale);
      store_sum(op, tile.skip + row, c, sum(to_int(load(sums[r][1])), load_sum(op, tile.skip + row, c)));
    }
  }
};

template <class E>
struct TilesInt8 {
  using Sum = int32_t;
  using Block = QuantizedBlock<E>;
  using Rows8 = QuantizedTileRows<E>;

  static void convolve(const Block& op, const Rows8& a, const Rows8& b, int panel, Sums<int32_t>& sums) {
    const uint8_t* const taps[2][3] = {{a.past8, a.present8, a.future8}, {b.past8, b.present8, b.future8}};
    multiply_taps(taps, op.dilated8 + panel * int64_t{2} * kWidth * 3 * op.channels, op.channels, sums);
  }

  static void project(const Block& op, const Rows8& a, const Rows8& b, int panel, Sums<int32_t>& sums) {
    const int8_t* const weight = op.projection8 + panel * int64_t{2} * kWidth * op.channels;
    const uint8_t *const gated0 = a.gated8, *const gated1 = b.gated8;
    multiply(gated0, gated1, op.channels, weight, op.channels, sums);
  }

  static void gate_panel(const Block& op, const Rows8& tile, int panel, const int32_t (&sums)[kRows][2][kWidth]) {
    const int64_t channels = op.channels, first = panel * int64_t{2} * kWidth;
    const VecInt start0 = load(op.dilated_start + first), start1 = load(op.dilated_start + first + kWidth);
    const Vec scale0 = load(op.gate_scale + first), scale1 = load(op.gate_scale + first + kWidth);
    for (int r = 0; r < kRows; r += kGatedRows) {
      Vec sigmoid[kGatedRows], tanh[kGatedRows];
      for (int i = 0; i < kGatedRows; ++i) {
        VecInt s = sum(load(sums[r + i][0]), start0), t = sum(load(sums[r + i][1]), start1);
        if (tile.conditioner8) {
          const int8_t* row = tile.conditioner8 + (r + i) * 2 * channels + first;
          s = add_shifted(load(row), load(op.conditioner_shift + first), s);
          t = add_shifted(load(row + kWidth), load(op.conditioner_shift + first + kWidth), t);
        }
        sigmoid[i] = to_float(s) * scale0;
        tanh[i] = to_float(t) * scale1;
      }
      store_rows(tile.gated8 + r * channels + panel * kWidth, channels, gated_uint8(sigmoid, tanh, *op.gate));
    }
  }

  static void finish_panel(const Block& op, const Rows8& tile, int panel, const int32_t (&sums)[kRows][2][kWidth]) {
    const int c = panel * kWidth;
    const VecInt start = load(op.residual_start + c);
    const Vec root = broadcast(kRootHalf), scale = load(op.projection_scale + c), bias = load(op.residual_bias + c);
    const Vec y_scale = broadcast(op.y_scale);
    for (int r = 0; r < kRows; ++r) {
      const int64_t row = r * static_cast<int64_t>(op.channels);
      const Vec product = to_float(sum(load(sums[r][0]), start));
      const Vec y = fma(product, scale, fma(load(tile.present + row + c), root, bias));
      store(tile.y + row + c, y);
      if (tile.y8) store(tile.y8 + row + c, y * y_scale);
      store_sum(op, tile.skip + row, c, sum(load(sums[r][1]), load_sum(op, tile.skip + row, c)));
    }
  }
};

// The loops of loop.inl.
template <class Layer>
void tiles_block(const typename Layer::Block& op, Rows rows) {
  using Sum = typename Layer::Sum;
  const int panels = op.channels / kWidth;
  configure_tiles(kRows);
  for (int64_t begin = rows.begin; begin < rows.end; begin += kBlockRows) {
    const auto tiles = tiles_of(op, begin, rows);
    for (int panel = 0; panel < panels; ++panel)
      in_pairs<Sum>(
          tiles.count,
          [&](int a, int b, auto& sums) { Layer::convolve(op, tiles.rows[a], tiles.rows[b], panel, sums); },
          [&](int i, const auto& sums) {
            prefetch_after(op, rows, begin, tiles, panels, panel, i);
            Layer::gate_panel(op, tiles.rows[i], panel, sums);
          });
    for (int panel = 0; panel < panels; ++panel)
      in_pairs<Sum>(
          tiles.count, [&](int a, int b, auto& sums) { Layer::project(op, tiles.rows[a], tiles.rows[b], panel, sums); },
          [&](int i, const auto& sums) { Layer::finish_panel(op, tiles.rows[i], panel, sums); });
    for (int i = 0; i < tiles.count; ++i) finish(op, tiles.rows[i], tiles.time[i], rows.length);
  }
  release_tiles();
}

template <class E>
void direct_on_tiles(const ResidualBlock<E>& op, Rows rows) {
  suits_tiles(op) ? tiles_block<TilesBf16<E>>(op, rows) : direct_block(op, rows);
}

template <class E>
void direct_on_tiles(const QuantizedBlock<E>& op, Rows rows) {
  if (!suits_tiles(op)) return direct_block(op, rows);
  op.x8.rows ? tiles_block<TilesInt8<E>>(op, rows) : tiles_block<TilesUnquantized<E>>(op, rows);
}
