// The inner loop of every matrix product: acc [kRows][V vectors] += x [kRows][inputs] * packed weights, in registers.
// Each output is one chain of multiply-adds over k in ascending order, so its bytes do not depend on its tile.
//
// C is the row width if known at compile time (row offsets then become immediates), else 0. Rows follow each other, or
// G of them are interleaved: four uint8 of each in turn.
template <int V, int C, int G = 1, class Sum, class E, class W>
DIFFWAVE_INLINE void accumulate(Sum (&acc)[kRows][V], const E* x, int64_t width, const W* weight, int inputs) {
  const int64_t stride = C ? C : width;
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

// The same for uint8 rows that are multiplied as int16: of every four inputs the first and the third, then the others
// (see int16_order).
template <class Sum, class W>
DIFFWAVE_INLINE void accumulate_int16(Sum (&acc)[kRows][2], const uint8_t* x, int64_t width, const W* weight,
                                      int inputs) {
  for (int k = 0; k < inputs; k += 4)
#pragma GCC unroll 2
    for (int odd = 0; odd < 2; ++odd) {
      const Sum w0 = load_weights(weight), w1 = load_weights(weight + 2 * kWidth);
#pragma GCC unroll 12
      for (int r = 0; r < kRows; ++r) {
        const Sum bytes = broadcast_group(x + r * width + k), value = every_other_byte(bytes, odd);
        acc[r][0] = dot(acc[r][0], value, w0, weight);
        acc[r][1] = dot(acc[r][1], value, w1, weight);
#if defined(__clang__) && defined(__x86_64__)
        asm volatile("" : "+x"(acc[r][1]) : : "memory");  // keeps the load of the next row behind: no register is left
#endif
      }
      weight += 4 * kWidth;
      asm volatile("" ::: "memory");  // forces a second load of the row: no registers are left to keep it
    }
}

// Separates the loop before from the code after it. Without this, GCC 12 keeps the sums on the stack inside the loop.
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
