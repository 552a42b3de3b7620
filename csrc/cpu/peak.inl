// The peak of an instruction set: the inner loop of matmul.inl on registers alone. Where an int8 product takes several
// instructions, those that depend on one row or one weight alone run once per row or weight, as in matmul.inl.
DIFFWAVE_INLINE Vec multiply_accumulate(Vec acc, Vec x, Vec w, const float*) { return fma(acc, x, w); }
template <class Sum, class E>
DIFFWAVE_INLINE Sum multiply_accumulate(Sum acc, Sum x, Sum w, const E* type) {
  return dot(acc, x, w, type);
}

// Makes the value unknown to the compiler, so that it cannot move work out of the loop.
template <class V>
DIFFWAVE_INLINE void hide_from_optimizer(V& value) {
#if defined(__x86_64__)
  asm volatile("" : "+v"(value));
#elif defined(__aarch64__)
  asm volatile("" : "+w"(value));
#else
  asm volatile("" : "+m"(value));
#endif
}

template <class E>
double peak(int64_t rounds) {
  // Unknown, separate values per chain: otherwise the compiler merges the chains or computes them in advance.
  volatile uint32_t quarter = 0x3e803e80;  // about 1/4 as a float, and as each of two Bf16
  const auto start = [&] {
    const uint32_t bits = quarter;
    E values[kGroup<E>];
    __builtin_memcpy(values, &bits, sizeof values);
    return broadcast_group(values);
  };
  auto x = start(), sum = start();
  const decltype(x) w[2] = {start(), start()};
  decltype(x) acc[kRows][2];
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 2
    for (int v = 0; v < 2; ++v) acc[r][v] = start();
  for (int64_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 12
    for (int r = 0; r < kRows; ++r) {
      hide_from_optimizer(x);
#pragma GCC unroll 2
      for (int v = 0; v < 2; ++v) acc[r][v] = multiply_accumulate(acc[r][v], x, w[v], static_cast<const E*>(nullptr));
    }
  }
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 2
    for (int v = 0; v < 2; ++v) sum = sum + acc[r][v];
  volatile auto sink = sum[0];
  (void)sink;
  return static_cast<double>(rounds) * kRows * 2 * kWidth * kGroup<E>;
}
