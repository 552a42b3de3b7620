// What paired_block.inl does in a network of bytes.

// Gated rows are bytes, as in quantized_block.inl, or, on the tiers that multiply words (kWords), the same as words.
template <bool words>
struct Gated {
  using Type = uint8_t;
  static constexpr int kTogether = kGatedRows;
  template <class Block>
  static const int8_t* projection(const Block& op) {
    return op.projection8;
  }
};
template <>
struct Gated<true> {
  using Type = int16_t;
  static constexpr int kTogether = 1;
  template <class Block>
  static const int16_t* projection(const Block& op) {
    return op.projection16;
  }
};

// Where the bytes of a row of values stand.
template <class E>
DIFFWAVE_INLINE uint8_t* bytes_of(const Ring<uint8_t>& bytes, const Ring<E>& values, const E* row) {
  return bytes.rows + (row - values.rows);
}

// A panel of y of one row.
template <class E, class Scratch, class At>
DIFFWAVE_INLINE void store_y(const QuantizedBlock<E>& op, const Scratch& scratch, const At& row, int half, int c,
                             Vec y) {
  store(row.y[half] + c, y);
  if (!op.y8.rows) return;
  uint8_t* const y8 = row.wanted[half] ? bytes_of(op.y8, op.y, row.y[half]) : scratch.unwanted8;
  store(y8 + c, y * broadcast(op.y_scale));
}

template <int C, class E, class Scratch, class At>
DIFFWAVE_INLINE void project_gated(const QuantizedBlock<E>& op, const Scratch& scratch, const At* at, long first,
                                   int panel, int half) {
  using Rows = Gated<kWords>;
  const int channels = C ? C : op.channels, c = panel * kWidth;
  const auto weight = Rows::projection(op) + static_cast<long>(panel) * 2 * kWidth * channels;
  const typename Rows::Type* gated = scratch.gated[half] + first * channels;
  const VecInt start = load(op.residual_start + c);
  VecInt acc[kRows][2];
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r) {
    acc[r][0] = start;
    acc[r][1] = load_sum(op, at[first + r].skip[half], c);
  }
  accumulate<2, C, Rows::kTogether>(acc, gated, channels, weight, channels);
  keep_in_registers(acc);
  const Vec root = broadcast(0.70710678f), scale = load(op.projection_scale + c), bias = load(op.residual_bias + c);
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r) {
    const At& row = at[first + r];
    const Vec y = fma(to_float(acc[r][0]), scale, fma(load(row.x[1 + half] + c), root, bias));
    store_y(op, scratch, row, half, c, y);
    store_sum(op, row.skip[half], c, acc[r][1]);
  }
}

template <class E, class K>
void finish_bytes(const QuantizedBlock<E>& op, const PairedRows<K>& at, int half, long length) {
  finish_row(op.y, at.y[half], at.time[half], length, op.edges);
  if (op.y8.rows) finish_row(op.y8, bytes_of(op.y8, op.y, at.y[half]), at.time[half], length, op.edges8);
}

template <class E>
void pad_bytes(const QuantizedBlock<E>& op, Rows rows) {
  pad_after(op.y, rows, op.edges);
  if (op.y8.rows) pad_after(op.y8, rows, op.edges8);
}

// A layer whose input is kept as it is: that of fp32, but that it adds to the skip sum in that sum's unit.
template <class E>
struct KeptPairs : Fp32Pairs {
  using Block = QuantizedBlock<E>;

  template <int C>
  DIFFWAVE_INLINE void projected_half(const Block& op, const Scratch& scratch, const At* at, long first, int panel,
                                      int half) {
    const int channels = C ? C : op.channels, c = panel * kWidth;
    const float* weight = op.projection + static_cast<long>(panel) * 2 * kWidth * channels;
    const Vec root = broadcast(0.70710678f), bias = load(op.residual_bias + c);
    Vec acc[kRows][2];
#pragma GCC unroll 12
    for (int r = 0; r < kRows; ++r) {
      acc[r][0] = fma(load(at[first + r].x[1 + half] + c), root, bias);
      acc[r][1] = broadcast(0.0f);
    }
    accumulate<2, C>(acc, scratch.gated[half] + first * channels, channels, weight, channels);
    VecInt sums[kRows];  // all of them before any is stored: the last rows of a register tile may be one row
#pragma GCC unroll 12
    for (int r = 0; r < kRows; ++r) sums[r] = sum(to_int(acc[r][1]), load_sum(op, at[first + r].skip[half], c));
#pragma GCC unroll 12
    for (int r = 0; r < kRows; ++r) {
      store_y(op, scratch, at[first + r], half, c, acc[r][0]);
      store_sum(op, at[first + r].skip[half], c, sums[r]);
    }
  }

  static void finish(const Block& op, const At& at, int half, long length) { finish_bytes(op, at, half, length); }
  static void pad(const Block& op, Rows rows) { pad_bytes(op, rows); }
};

// A layer whose input is bytes, on the tiers that multiply words. Sums and differences of bytes are words, and so are
// those of their weights. The weights of m2 and m3 are kept whole; what is shared of both, which is even, is halved. So
// the sums of products are those of quantized_block.inl, bit by bit.
template <class E>
struct WordPairs {
  using Block = QuantizedBlock<E>;
  using Scratch = PairedScratch<int16_t, int32_t, int16_t>;
  using At = PairedRows<int8_t>;

  static Ring<int8_t> conditioner(const Block& op) {
    return op.conditioner8.rows ? op.conditioner8 : Ring<int8_t>{nullptr, 1, 0};
  }
  static const int16_t* dilated(const Block& op) { return op.dilated16; }

  DIFFWAVE_INLINE void mix(const Block& op, const At& at, const Scratch& scratch, long pair) {
    const auto a = bytes_of(op.x8, op.x, at.x[0]), b = bytes_of(op.x8, op.x, at.x[1]);
    const auto c = bytes_of(op.x8, op.x, at.x[2]), e = bytes_of(op.x8, op.x, at.x[3]);
    for (long k = 0; k < op.channels; k += kWidth)
      mix_words(a + k, b + k, c + k, e + k, scratch.mixed, pair * op.channels + k);
  }

  template <int C>
  DIFFWAVE_INLINE void gated_half(const Block& op, const Scratch& scratch, const At* at, long first, int panel,
                                  int half) {
    const int channels = C ? C : op.channels;
    const long c = panel * 2L * kWidth;
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
        const int8_t* row = at[first + r].conditioner[half] + c;
        acc[r][0] = add_shifted(load(row), shift0, acc[r][0]);
        acc[r][1] = add_shifted(load(row + kWidth), shift1, acc[r][1]);
      }
    }
    add_product<C>(acc, op.dilated16, scratch.mixed, channels, first, panel, half == 0 ? 0 : 3);
    store_gated_panel(scratch.gated[half] + first * channels, channels, panel, acc, op.dilated_scale + c, *op.gate);
  }

  template <int C>
  DIFFWAVE_INLINE void projected_half(const Block& op, const Scratch& scratch, const At* at, long first, int panel,
                                      int half) {
    project_gated<C>(op, scratch, at, first, panel, half);
  }

  static void finish(const Block& op, const At& at, int half, long length) { finish_bytes(op, at, half, length); }
  static void pad(const Block& op, Rows rows) { pad_bytes(op, rows); }
};
