DIFFWAVE_INLINE Vec in_units(Vec v, float scale, const uint8_t*) { return v * broadcast(scale); }
template <class T>
DIFFWAVE_INLINE Vec in_units(Vec v, float, const T*) {
  return v;
}

// One output row of one transposed convolution of the mel upsampler and its leaky ReLU (paper, section 3.2).
template <class T>
void upsample_row(const UpsampleRow<T>& op) {
  const Vec slope = broadcast(0.4f);
  for (int m = 0; m < op.bands; m += kWidth) {
    Vec sum = broadcast(op.bias);
    for (int tap = 0; tap < 3; ++tap) {
      const float* weight = op.weight + tap * 2 * op.stride;
      sum = fma(broadcast(weight[0]), load(op.newer + m + 1 - tap), sum);
      sum = fma(broadcast(weight[op.stride]), load(op.older + m + 1 - tap), sum);
    }
    store(op.out + m, in_units(maximum(sum, sum * slope), op.scale, op.out));
  }
  for (long m = op.bands; m < op.width; ++m) op.out[m] = T{};
}
