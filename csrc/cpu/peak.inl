// What this instruction set can do at most: the inner loop of matmul.inl on registers alone. Where a product of bytes
// takes several instructions, those that only concern one row or one weight are paid for once, as they are there.
DIFFWAVE_INLINE Vec multiply_accumulate(Vec acc, Vec x, Vec w, const float*) { return fma(acc, x, w); }
template <class Sum, class E>
DIFFWAVE_INLINE Sum multiply_accumulate(Sum acc, Sum x, Sum w, const E* type) {
  return dot(acc, x, w, type);
}

// A value of which the compiler no longer knows that it has seen it.
template <class V>
DIFFWAVE_INLINE void forget(V& value) {
#if defined(__x86_64__)
  asm volatile("" : "+v"(value));
#elif defined(__aarch64__)
  asm volatile("" : "+w"(value));
#else
  asm volatile("" : "+m"(value));
#endif
}

template <class E>
double peak(long rounds) {
  // Values the compiler cannot know, each chain's own: else it would merge the chains or do them beforehand.
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
  for (long i = 0; i < rounds; ++i) {
#pragma GCC unroll 12
    for (int r = 0; r < kRows; ++r) {
      forget(x);
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
