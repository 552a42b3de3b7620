// The inner loop of every operation: kRows rows of x against packed weights, V vectors of outputs, accumulated in
// registers. Each output is one chain over k in ascending order, so it does not depend on the tile it is computed in.
//
// C is the row's width where it is known at compile time (the rows' offsets then become immediates), else 0.
//
// Rows stand one after the other, or G of them side by side: four bytes of each in turn.
template <int V, int C, int G = 1, class Sum, class E, class W>
DIFFWAVE_INLINE void accumulate(Sum (&acc)[kRows][V], const E* x, long width, const W* weight, int inputs) {
  const long stride = C ? C : width;
  for (int k = 0; k < inputs; k += kGroup<E>) {
    Sum w[V];
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) w[v] = load_weights(weight + v * kWidth * kGroup<E>);
#pragma GCC unroll 12
    for (int r = 0; r < kRows; ++r) {
      const Sum value = broadcast_group(x + r / G * G * stride + r % G * 4 + k * G);
#pragma GCC unroll 2
      for (int v = 0; v < V; ++v) acc[r][v] = dot(acc[r][v], value, w[v], x);
    }
    weight += V * kWidth * kGroup<E>;
  }
}

// The same for rows of bytes that are multiplied as words: of every four inputs the first and the third, then the
// others (see words_place).
template <class Sum, class W>
DIFFWAVE_INLINE void accumulate_words(Sum (&acc)[kRows][2], const uint8_t* x, long width, const W* weight, int inputs) {
  for (int k = 0; k < inputs; k += 4)
#pragma GCC unroll 2
    for (int odd = 0; odd < 2; ++odd) {
      const Sum w0 = load_weights(weight), w1 = load_weights(weight + 2 * kWidth);
#pragma GCC unroll 12
      for (int r = 0; r < kRows; ++r) {
        const Sum bytes = broadcast_group(x + r * width + k), value = every_other_byte(bytes, odd);
        acc[r][0] = dot(acc[r][0], value, w0, weight);
        acc[r][1] = dot(acc[r][1], value, w1, weight);
      }
      weight += 4 * kWidth;
      asm volatile("" ::: "memory");  // bytes are loaded twice: there are no registers to keep them in
    }
}

// What follows is not mixed with the loop before: GCC 12 would keep the sums on the stack there.
template <int V, class Sum>
DIFFWAVE_INLINE void keep_in_registers(Sum (&acc)[kRows][V]) {
#if defined(__x86_64__)
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) asm volatile("" : "+v"(acc[r][v]));
#else
  (void)acc;
#endif
}
