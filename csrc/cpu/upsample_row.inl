// One output row of one stage of the mel upsampler (paper, section 3.2): a transposed convolution over (band, time) and
// a leaky ReLU of slope 0.4. out[m] = leaky(bias + sum over 3 bands and 2 input rows), all bands m, as float, bf16 or
// quantized uint8.

// Scales values for quantized output; the identity for other output types.
DIFFWAVE_INLINE Vec quantization_scaled(Vec v, float scale, const uint8_t*) { return v * broadcast(scale); }
template <class T>
DIFFWAVE_INLINE Vec quantization_scaled(Vec v, float, const T*) {
  return v;
}

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
    store(op.out + m, quantization_scaled(maximum(sum, sum * slope), op.scale, op.out));
  }
  for (int64_t m = op.bands; m < op.width; ++m) op.out[m] = T{};
}
