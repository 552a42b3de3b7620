// The policies of winograd.inl for int8 networks: WinogradUnquantized for layers whose input stays fp32, WinogradInt8
// for quantized layers on tiers that multiply int8 as int16 (AVX2).

// The quantized row that belongs to a row of values. Both rings have the same shape.
template <class E>
DIFFWAVE_INLINE uint8_t* int8_row(const Ring<uint8_t>& quantized, const Ring<E>& values, const E* row) {
  return quantized.rows + (row - values.rows);
}

// Stores a panel of y and y8 of one row of a pair.
template <class E, class Scratch, class Pair>
DIFFWAVE_INLINE void store_y(const QuantizedBlock<E>& op, const Scratch& scratch, const Pair& row, int half, int c,
                             Vec y) {
  store(row.y[half] + c, y);
  if (!op.y8.rows) return;
  uint8_t* const y8 = row.needed[half] ? int8_row(op.y8, op.y, row.y[half]) : scratch.discarded8;
  store(y8 + c, y * broadcast(op.y_scale));
}

template <class E, class Conditioner>
void finish_int8(const QuantizedBlock<E>& op, const WinogradPair<Conditioner>& pair, int half, int64_t length) {
  finish_row(op.y, pair.y[half], pair.time[half], length, op.edges);
  if (op.y8.rows) finish_row(op.y8, int8_row(op.y8, op.y, pair.y[half]), pair.time[half], length, op.edges8);
}

template <class E>
void pad_int8(const QuantizedBlock<E>& op, Rows rows) {
  pad_after(op.y, rows, op.edges);
  if (op.y8.rows) pad_after(op.y8, rows, op.edges8);
}

// A layer of an int8 network that is not quantized: fp32, except that its skip outputs are rounded to the unit of the
// int32 skip sum.
template <class E>
struct WinogradUnquantized : WinogradFp32 {
  using Block = QuantizedBlock<E>;

  template <int C>
  DIFFWAVE_INLINE void projected_half(const Block& op, const Scratch& scratch, const Pair* pairs, int64_t first,
                                      int panel, int half) {
    const int channels = C ? C : op.channels, c = panel * kWidth;
    const float* weight = op.projection + static_cast<int64_t>(panel) * 2 * kWidth * channels;
    const Vec root = broadcast(kRootHalf), bias = load(op.residual_bias + c);
    Vec acc[kRows][2];
#pragma GCC unroll 12
    for (int r = 0; r < kRows; ++r) {
      acc[r][0] = fma(load(pairs[first + r].x[1 + half] + c), root, bias);
      acc[r][1] = broadcast(0.0f);
    }
    accumulate<2, C>(acc, scratch.gated[half] + first * channels, channels, weight, channels);
    VecInt sums[kRows];  // load all before storing any: the last pair may stand in a register tile several times
#pragma GCC unroll 12
    for (int r = 0; r < kRows; ++r) sums[r] = sum(to_int(acc[r][1]), load_sum(op, pairs[first + r].skip[half], c));
#pragma GCC unroll 12
    for (int r = 0; r < kRows; ++r) {
      store_y(op, scratch, pairs[first + r], half, c, acc[r][0]);
      store_sum(op, pairs[first + r].skip[half], c, sums[r]);
    }
  }

  static void finish(const Block& op, const Pair& pair, int half, int64_t length) {
    finish_int8(op, pair, half, length);
  }
  static void pad(const Block& op, Rows rows) { pad_int8(op, rows); }
};

// A quantized layer on tiers that multiply int16. The transformed inputs (sums and differences of uint8) and the
// transformed weights (sums of int8) fit int16. The weights of m2 and m3 are stored without the factor 1/2; m2 + m3 and
// m2 - m3, which are even, are halved instead. The sums are therefore bit-identical to those of direct_int8.inl. Gated
// rows hold the same values as there, sigmoid * tanh in 127 parts plus 128, but as int16.
template <class E>
struct WinogradInt8 {
  using Block = QuantizedBlock<E>;
  using Scratch = WinogradScratch<int16_t, int32_t, int16_t>;
  using Pair = WinogradPair<int8_t>;

  static Ring<int8_t> conditioner(const Block& op) {
    return op.conditioner8.rows ? op.conditioner8 : Ring<int8_t>{nullptr, 1, 0};
  }
  static const int16_t* dilated(const Block& op) { return op.dilated16; }

  DIFFWAVE_INLINE void transform_input(const Block& op, const Pair& pair, const Scratch& scratch, int64_t index) {
    const auto a = int8_row(op.x8, op.x, pair.x[0]), b = int8_row(op.x8, op.x, pair.x[1]);
    const auto c = int8_row(op.x8, op.x, pair.x[2]), e = int8_row(op.x8, op.x, pair.x[3]);
    for (int64_t k = 0; k < op.channels; k += kWidth)
      transform_input_int16(a + k, b + k, c + k, e + k, scratch.transformed, index * op.channels + k);
  }

  template <int C>
  DIFFWAVE_INLINE void gated_half(const Block& op, const Scratch& scratch, const Pair* pairs, int64_t first, int panel,
                                  int half) {
    const int channels = C ? C : op.channels;
    const int64_t c = panel * int64_t{2} * kWidth;
    const int32_t* shared = scratch.shared[half] + first * 2 * kWidth;
    const auto start0 = load(op.dilated_start + c), start1 = load(op.dilated_start + c + kWidth);
    VecInt acc[kRows][2];
#pragma GCC unroll 12
    for (int r = 0; r < kRows; ++r) {
      acc[r][0] = sum(load(shared + r * 2 * kWidth), start0);
      acc[r][1] = sum(load(shared + r * 2 * kWidth + kWidth), start1);
    }
    if (op.conditioner8.rows) {
      const VecInt shift0 = load(op.conditioner_shift + c), shift1 = load(op.conditioner_shift + c + kWidth);
#pragma GCC unroll 12
      for (int r = 0; r < kRows; ++r) {
        const int8_t* row = pairs[first + r].conditioner[half] + c;
        acc[r][0] = add_shifted(load(row), shift0, acc[r][0]);
        acc[r][1] = add_shifted(load(row + kWidth), shift1, acc[r][1]);
      }
    }
    add_product<C>(acc, op.dilated16, scratch.transformed, channels, first, panel, half == 0 ? 0 : 3);
    store_gated_panel(scratch.gated[half] + first * channels, channels, panel, acc, op.gate_scale + c, *op.gate);
  }

  template <int C>
  DIFFWAVE_INLINE void projected_half(const Block& op, const Scratch& scratch, const Pair* pairs, int64_t first,
                                      int panel, int half) {
    const int channels = C ? C : op.channels, c = panel * kWidth;
    const int16_t* weight = op.projection16 + static_cast<int64_t>(panel) * 2 * kWidth * channels;
    const VecInt start = load(op.residual_start + c);
    VecInt acc[kRows][2];
#pragma GCC unroll 12
    for (int r = 0; r < kRows; ++r) {
      acc[r][0] = start;
      acc[r][1] = load_sum(op, pairs[first + r].skip[half], c);
    }
    accumulate<2, C>(acc, scratch.gated[half] + first * channels, channels, weight, channels);
    keep_in_registers(acc);
    const Vec root = broadcast(kRootHalf), scale = load(op.projection_scale + c), bias = load(op.residual_bias + c);
#pragma GCC unroll 12
    for (int r = 0; r < kRows; ++r) {
      const Pair& row = pairs[first + r];
      const Vec y = fma(to_float(acc[r][0]), scale, fma(load(row.x[1 + half] + c), root, bias));
      store_y(op, scratch, row, half, c, y);
      store_sum(op, row.skip[half], c, acc[r][1]);
    }
  }

  static void finish(const Block& op, const Pair& pair, int half, int64_t length) {
    finish_int8(op, pair, half, length);
  }
  static void pad(const Block& op, Rows rows) { pad_int8(op, rows); }
};
