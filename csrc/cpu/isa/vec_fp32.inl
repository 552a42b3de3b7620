// fp32 on top of a tier's Vec: weights, multiply-add, quotient and exponential.
DIFFWAVE_INLINE Vec load_weights(const float* p) { return load(p); }
DIFFWAVE_INLINE Vec broadcast_group(const float* p) { return broadcast(*p); }
DIFFWAVE_INLINE Vec dot(Vec acc, Vec x, Vec w, const float*) { return fma(x, w, acc); }
DIFFWAVE_INLINE Vec quotient(Vec a, Vec b, const float*) { return a / b; }
// 2^f on [-1/2, 1/2] with error 1e-7: minimax polynomial of degree 5.
DIFFWAVE_INLINE Vec exp2_fraction(Vec f, const float*) {
  Vec p = fma(f, broadcast(0.0013264730f), broadcast(0.0096715130f));
  p = fma(p, f, broadcast(0.055507336f));
  p = fma(p, f, broadcast(0.24022242f));
  p = fma(p, f, broadcast(0.69314700f));
  return fma(p, f, broadcast(1.0f));
}
