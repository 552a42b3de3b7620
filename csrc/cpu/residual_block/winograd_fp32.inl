// The fp32 policy of winograd.inl: inputs, weights, sums and gated rows are float.
DIFFWAVE_INLINE Vec shared_sum(Vec m2, Vec m3) { return m2 + m3; }
DIFFWAVE_INLINE Vec shared_difference(Vec m2, Vec m3) { return m2 - m3; }

// Winograd's input transform of one pair: [C] each of a - c, b + c, c - b, e - b.
DIFFWAVE_INLINE void transform_input_fp32(const WinogradPair<float>& pair, float* const (&transformed)[4],
                                          int64_t index, int64_t channels) {
  for (int64_t k = 0; k < channels; k += kWidth) {
    const Vec a = load(pair.x[0] + k), b = load(pair.x[1] + k), c = load(pair.x[2] + k), e = load(pair.x[3] + k);
    const int64_t i = index * channels + k;
    store(transformed[0] + i, a - c);
    store(transformed[1] + i, b + c);
    store(transformed[2] + i, c - b);
    store(transformed[3] + i, e - b);
  }
}

// The gate's arguments of one half, as exponents of two (gate.inl), from the shared products:
//   acc = shared + (conditioner + step bias) + m1 (half 0) or m4 (half 1)
template <int C, class Scratch>
DIFFWAVE_INLINE void gate_arguments_fp32(Vec (&acc)[kRows][2], const ResidualBlock<float>& op, const Scratch& scratch,
                                         const WinogradPair<float>* pairs, int64_t first, int panel, int half) {
  const int64_t c = panel * int64_t{2} * kWidth;
  const float* shared = scratch.shared[half] + first * 2 * kWidth;
  const Vec bias0 = load(op.step_bias + c), bias1 = load(op.step_bias + c + kWidth);
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r) {
    const float* row = pairs[first + r].conditioner[half] + c;
    acc[r][0] = load(shared + r * 2 * kWidth) + (load(row) + bias0);
    acc[r][1] = load(shared + r * 2 * kWidth + kWidth) + (load(row + kWidth) + bias1);
  }
  add_product<C>(acc, op.dilated, scratch.transformed, C ? C : op.channels, first, panel, half == 0 ? 0 : 3);
}

struct WinogradFp32 {
  using Block = ResidualBlock<float>;
  using Scratch = WinogradScratch<float, float, float>;
  using Pair = WinogradPair<float>;

  static const Ring<float>& conditioner(const Block& op) { return op.conditioner; }
  static const float* dilated(const Block& op) { return op.dilated; }

  DIFFWAVE_INLINE void transform_input(const Block& op, const Pair& pair, const Scratch& scratch, int64_t index) {
    transform_input_fp32(pair, scratch.transformed, index, op.channels);
  }

  template <int C>
  DIFFWAVE_INLINE void gated_half(const Block& op, const Scratch& scratch, const Pair* pairs, int64_t first, int panel,
                                  int half) {
    const int channels = C ? C : op.channels;
    float* const gated = scratch.gated[half] + first * channels + panel * kWidth;
    Vec acc[kRows][2];
    gate_arguments_fp32<C>(acc, op, scratch, pairs, first, panel, half);
#pragma GCC unroll 12
    for (int r = 0; r < kRows; ++r) store(gated + r * channels, gate<float>(acc[r][0], acc[r][1]));
  }

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
      acc[r][1] = load((op.skip_start ? op.skip_start : pairs[first + r].skip[half]) + c);
    }
    accumulate<2, C>(acc, scratch.gated[half] + first * channels, channels, weight, channels);
#pragma GCC unroll 12
    for (int r = 0; r < kRows; ++r) {
      store(pairs[first + r].y[half] + c, acc[r][0]);
      store(pairs[first + r].skip[half] + c, acc[r][1]);
    }
  }

  static void finish(const Block& op, const Pair& pair, int half, int64_t length) {
    finish_row(op.y, pair.y[half], pair.time[half], length, op.edges);
  }

  static void pad(const Block& op, Rows rows) { pad_after(op.y, rows, op.edges); }
};
