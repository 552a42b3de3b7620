// What this instruction set can do at most: independent multiply-accumulates on registers, nothing else.
DIFFWAVE_INLINE Vec multiply_accumulate(Vec acc, Vec x, Vec w, const float*) { return fma(acc, x, w); }
template <class Sum, class E>
DIFFWAVE_INLINE Sum multiply_accumulate(Sum acc, Sum x, Sum w, const E* type) {
  return dot(acc, x, w, type);
}

template <class E>
double peak(long rounds) {
  constexpr int kChains = kRows == 12 ? 24 : 12;
  // Values the compiler cannot know, each chain's own: else it would merge the chains or do them beforehand.
  volatile uint32_t quarter = 0x3e803e80;  // about 1/4 as a float, and as each of two Bf16
  const auto start = [&] {
    const uint32_t bits = quarter;
    E values[kGroup<E>];
    __builtin_memcpy(values, &bits, sizeof values);
    return broadcast_group(values);
  };
  auto x = start(), w = start(), sum = start();
  decltype(x) acc[kChains];
#pragma GCC unroll 24
  for (int c = 0; c < kChains; ++c) acc[c] = start();
  for (long i = 0; i < rounds; ++i) {
#pragma GCC unroll 24
    for (int c = 0; c < kChains; ++c) acc[c] = multiply_accumulate(acc[c], x, w, static_cast<const E*>(nullptr));
  }
#pragma GCC unroll 24
  for (int c = 0; c < kChains; ++c) sum = sum + acc[c];
  volatile auto sink = sum[0];
  (void)sink;
  return static_cast<double>(rounds) * kChains * kWidth * kGroup<E>;
}
