// The output head (paper, figure 2a) fused with the update of x (algorithm 1 and equation 12):
//
//   eps(t) = out_weight * relu(weight * skip(t) + bias) + out_bias, x(t) = a x(t) + b eps(t) + sigma z(t)
//
// For every vector width, the sum over channels runs in sixteen lanes and then in one fixed tree. Tiers with fused
// multiply-add therefore agree to the last bit.
constexpr int kLanes = 16;

DIFFWAVE_INLINE float sum_lanes(const float (&lane)[kLanes]) {
  float sum[kLanes];
  __builtin_memcpy(sum, lane, sizeof sum);
  for (int half = kLanes / 2; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) sum[i] = sum[i] + sum[i + half];
  return sum[0];
}

static void output_head(const OutputHead& op, Rows rows) {
  const Vec zero = broadcast(0.0f);
  for (int64_t t = rows.begin; t < rows.end; t += kRows) {
    if (outside(t, rows.length)) continue;
    const float* skip = op.skip.at(t);
    alignas(64) float lanes[kRows][kLanes] = {};
    for (int c = 0; c < op.channels; c += kWidth) {
      Vec acc[kRows][1];
#pragma GCC unroll 12
      for (int r = 0; r < kRows; ++r) acc[r][0] = load(op.bias + c);
      accumulate<1, 0>(acc, skip, op.channels, op.weight + static_cast<int64_t>(c) * op.channels, op.channels);
      const Vec out = load(op.out_weight + c);
      for (int r = 0; r < kRows; ++r) {
        float* lane = lanes[r] + c % kLanes;
        store(lane, fma(maximum(acc[r][0], zero), out, load(lane)));
      }
    }
    const int64_t first = std::max(t, int64_t{0}), last = std::min({t + kRows, rows.length, rows.end});
    float noise[kRows];
    if (op.sigma == 0.0f)
      std::fill_n(noise, kRows, 0.0f);
    else if (op.noise.values.data)
      std::copy_n(op.noise.values.at(first), last - first, noise);
    else
      normal(op.noise.seed, op.noise.step, first, last - first, noise);
    for (int64_t i = first; i < last; ++i) {
      const float eps = sum_lanes(lanes[i - t]) + op.out_bias;
      const float z = op.noise.scale.data ? noise[i - first] * *op.noise.scale.at(i) : noise[i - first];
      float x = op.a * *op.x.at(i) + op.b * eps + op.sigma * z;
      if (op.clamp) x = std::min(std::max(x, -1.0f), 1.0f);
      *op.x.at(i) = x;
    }
  }
}
