// What this instruction set can do at most: independent multiply-accumulates on registers, nothing else.
DIFFWAVE_INLINE Vec multiply_accumulate(Vec acc, Vec x, Vec w, const float*) { return fma(acc, x, w); }
template <class E>
DIFFWAVE_INLINE Vec multiply_accumulate(Vec acc, Vec x, Vec w, const E* type) {
  return dot(acc, x, w, type);
}

template <class E>
double peak(long rounds) {
  constexpr int kChains = kRows == 12 ? 24 : 12;
  // Values the compiler cannot know, each chain's own: else it would merge the chains or do them beforehand.
  volatile float start = 0.25f;
  Vec acc[kChains], x = broadcast(start), w = broadcast(start);
#pragma GCC unroll 24
  for (int c = 0; c < kChains; ++c) acc[c] = broadcast(start);
  for (long i = 0; i < rounds; ++i) {
#pragma GCC unroll 24
    for (int c = 0; c < kChains; ++c) acc[c] = multiply_accumulate(acc[c], x, w, static_cast<const E*>(nullptr));
  }
  Vec sum = acc[0];
#pragma GCC unroll 24
  for (int c = 1; c < kChains; ++c) sum = maximum(sum, acc[c]);
  volatile float sink = sum[0];
  (void)sink;
  return static_cast<double>(rounds) * kChains * kWidth * kGroup<E>;
}
