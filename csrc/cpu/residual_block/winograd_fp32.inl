// What paired_block.inl does with fp32.
DIFFWAVE_INLINE Vec shared_sum(Vec m2, Vec m3) { return m2 + m3; }
DIFFWAVE_INLINE Vec shared_difference(Vec m2, Vec m3) { return m2 - m3; }

DIFFWAVE_INLINE void mix_fp32(const PairedRows<float>& at, float* const (&mixed)[4], long pair, long channels) {
  for (long k = 0; k < channels; k += kWidth) {
    const Vec a = load(at.x[0] + k), b = load(at.x[1] + k), c = load(at.x[2] + k), e = load(at.x[3] + k);
    const long i = pair * channels + k;
    store(mixed[0] + i, a - c);
    store(mixed[1] + i, b + c);
    store(mixed[2] + i, c - b);
    store(mixed[3] + i, e - b);
  }
}

// From the shared products to the arguments of the gate, of one half.
template <int C, class Scratch>
DIFFWAVE_INLINE void sums_fp32(Vec (&acc)[kRows][2], const ResidualBlock<float>& op, const Scratch& scratch,
                               const PairedRows<float>* at, long first, int panel, int half) {
  const long c = panel * 2L * kWidth;
  const float* shared = scratch.shared[half] + first * 2 * kWidth;
  const Vec bias0 = load(op.step_bias + c), bias1 = load(op.step_bias + c + kWidth);
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r) {
    const float* row = at[first + r].conditioner[half] + c;
    acc[r][0] = load(shared + r * 2 * kWidth) + (load(row) + bias0);
    acc[r][1] = load(shared + r * 2 * kWidth + kWidth) + (load(row + kWidth) + bias1);
  }
  add_product<C>(acc, op.dilated, scratch.mixed, C ? C : op.channels, first, panel, half == 0 ? 0 : 3);
}

struct Fp32Pairs {
  using Block = ResidualBlock<float>;
  using Scratch = PairedScratch<float, float, float>;
  using At = PairedRows<float>;

  static const Ring<float>& conditioner(const Block& op) { return op.conditioner; }
  static const float* dilated(const Block& op) { return op.dilated; }

  DIFFWAVE_INLINE void mix(const Block& op, const At& at, const Scratch& scratch, long pair) {
    mix_fp32(at, scratch.mixed, pair, op.channels);
  }

  template <int C>
  DIFFWAVE_INLINE void gated_half(const Block& op, const Scratch& scratch, const At* at, long first, int panel,
                                  int half) {
    const int channels = C ? C : op.channels;
    float* const gated = scratch.gated[half] + first * channels + panel * kWidth;
    Vec acc[kRows][2];
    sums_fp32<C>(acc, op, scratch, at, first, panel, half);
#pragma GCC unroll 12
    for (int r = 0; r < kRows; ++r) store(gated + r * channels, gate<float>(acc[r][0], acc[r][1]));
  }

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
      acc[r][1] = load((op.skip_start ? op.skip_start : at[first + r].skip[half]) + c);
    }
    accumulate<2, C>(acc, scratch.gated[half] + first * channels, channels, weight, channels);
#pragma GCC unroll 12
    for (int r = 0; r < kRows; ++r) {
      store(at[first + r].y[half] + c, acc[r][0]);
      store(at[first + r].skip[half] + c, acc[r][1]);
    }
  }

  static void finish(const Block& op, const At& at, int half, long length) {
    finish_row(op.y, at.y[half], at.time[half], length, op.edges);
  }

  static void pad(const Block& op, Rows rows) { pad_after(op.y, rows, op.edges); }
};
