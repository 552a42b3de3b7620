// Matrix products on tile registers (vec_tiles.inl). The sums leave the registers through memory: `Sums`, which stays
// in the L1 cache. Register tiles are multiplied in pairs, so that four products are in flight, and one pair ahead of
// the vector units: while they use the sums of one pair, the tile unit multiplies the next.

// Two register tiles of sums, of a panel: [tile][row][half].
template <class T>
struct Sums {
  alignas(64) T of[2][kRows][2][kWidth];
};

// The inputs of a product in one tile of rows.
template <class E>
constexpr int kTileInputs = kTileBytes / static_cast<int>(sizeof(E));

// Adds rows [kRows][inputs] of two register tiles times a panel of weights to the tiles of sums. `stride` is the
// distance of two rows.
template <class E, class W>
DIFFWAVE_INLINE void multiply_pair(const E* x0, const E* x1, int64_t stride, const W* weight, int inputs) {
  constexpr int kVectorBytes = kWidth * 4;
  for (int k = 0; k < inputs; k += kTileInputs<E>) {
    load_tile<4>(x0 + k, stride * static_cast<int64_t>(sizeof(E)));
    load_tile<6>(weight, 2 * kVectorBytes);
    multiply_tiles<0, 4, 6>(x0);
    load_tile<7>(weight + kWidth * kGroup<E>, 2 * kVectorBytes);
    multiply_tiles<1, 4, 7>(x0);
    load_tile<5>(x1 + k, stride * static_cast<int64_t>(sizeof(E)));
    multiply_tiles<2, 5, 6>(x0);
    multiply_tiles<3, 5, 7>(x0);
    weight += int64_t{2} * kWidth * kTileInputs<E>;
  }
}

DIFFWAVE_INLINE void zero_sums() {
  zero_tile<0>();
  zero_tile<1>();
  zero_tile<2>();
  zero_tile<3>();
}

template <class T>
DIFFWAVE_INLINE void store_sums(Sums<T>& sums) {
  constexpr int kStride = sizeof sums.of[0][0];
  store_tile<0>(sums.of[0][0][0], kStride);
  store_tile<1>(sums.of[0][0][1], kStride);
  store_tile<2>(sums.of[1][0][0], kStride);
  store_tile<3>(sums.of[1][0][1], kStride);
}

// The product of rows [kRows][inputs] of two register tiles and one panel of weights.
template <class E, class W, class T>
DIFFWAVE_INLINE void multiply(const E* x0, const E* x1, int64_t stride, const W* weight, int inputs, Sums<T>& sums) {
  zero_sums();
  multiply_pair(x0, x1, stride, weight, inputs);
  store_sums(sums);
}

// Runs `multiply` for the register tiles of a block in pairs, one pair ahead of `use`, which takes them one by one.
template <class Sum, class Multiply, class Use>
DIFFWAVE_INLINE void in_pairs(int count, const Multiply& multiply, const Use& use) {
  Sums<Sum> sums[2];
  const auto multiply_from = [&](int i) { multiply(i, std::min(i + 1, count - 1), sums[i / 2 % 2]); };
  if (count) multiply_from(0);
  for (int i = 0; i < count; ++i) {
    if (i % 2 == 0 && i + 2 < count) multiply_from(i + 2);
    use(i, sums[i / 2 % 2].of[i % 2]);
  }
}

// The peak of the tile unit: products of full tiles on registers alone. Returns the number of multiply-accumulates.
template <class E>
double tiles_peak(int64_t rounds) {
  constexpr int kMostRows = 16;
  configure_tiles(kMostRows);
  zero_sums();
  zero_tile<4>();
  zero_tile<5>();
  zero_tile<6>();
  zero_tile<7>();
  const E* const type = nullptr;
  for (int64_t i = 0; i < rounds; ++i) {
    multiply_tiles<0, 4, 6>(type);
    multiply_tiles<1, 4, 7>(type);
    multiply_tiles<2, 5, 6>(type);
    multiply_tiles<3, 5, 7>(type);
  }
  release_tiles();
  return static_cast<double>(rounds) * 4 * kMostRows * kWidth * kTileInputs<E>;
}
