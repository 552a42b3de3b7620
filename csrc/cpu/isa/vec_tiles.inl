// The tile registers of AMX on top of vec_avx512.inl and vec_bf16.inl: eight registers of up to 16 rows of 64 bytes.
// One instruction multiplies a tile of rows by a tile of weights and adds the product to a tile of sums.
//
// Registers 0 to 3 hold sums, register 2 i + v vector v of the register tile i; 4 and 5 the rows of two register tiles;
// 6 and 7 the weights of two vectors. In assembly, because the intrinsics do not state which memory they use.
constexpr int kTileBytes = 64;  // of a row of a tile

// The operand of ldtilecfg: the rows and bytes of every register.
struct TileShapes {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t bytes[16] = {};
  uint8_t rows[16] = {};
};

// Sums and rows have `rows` rows; weights have 16, one per group of inputs.
DIFFWAVE_INLINE void configure_tiles(int rows) {
  alignas(64) TileShapes shapes;
  for (int i = 0; i < 8; ++i) {
    shapes.bytes[i] = kTileBytes;
    shapes.rows[i] = static_cast<uint8_t>(i < 6 ? rows : 16);
  }
  asm volatile("ldtilecfg %0" : : "m"(shapes));
}

// Without this, the operating system would save the registers at every switch of threads.
DIFFWAVE_INLINE void release_tiles() { asm volatile("tilerelease" : : : "memory"); }

template <int tile>
DIFFWAVE_INLINE void zero_tile() {
  asm volatile("tilezero %%tmm%c0" : : "i"(tile));
}

// `stride` is the distance of the rows in memory, in bytes.
template <int tile>
DIFFWAVE_INLINE void load_tile(const void* rows, int64_t stride) {
  asm volatile("tileloadd (%0,%1,1), %%tmm%c2" : : "r"(rows), "r"(stride), "i"(tile) : "memory");
}

template <int tile>
DIFFWAVE_INLINE void store_tile(void* rows, int64_t stride) {
  asm volatile("tilestored %%tmm%c2, (%0,%1,1)" : : "r"(rows), "r"(stride), "i"(tile) : "memory");
}

// Adds the product of a tile of rows and a tile of weights to a tile of sums. The type of the rows selects the product.
template <int sums, int rows, int weights>
DIFFWAVE_INLINE void multiply_tiles(const Bf16*) {
  asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(sums), "i"(rows), "i"(weights));
}
template <int sums, int rows, int weights>
DIFFWAVE_INLINE void multiply_tiles(const uint8_t*) {
  asm volatile("tdpbusd %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(sums), "i"(rows), "i"(weights));
}

// Stores four rows of sixteen gated values, which vec_gate512.inl leaves interleaved, each by itself.
DIFFWAVE_INLINE void store_rows(uint8_t* p, int64_t stride, __m512i interleaved) {
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  const __m512i rows = _mm512_permutexvar_epi32(order, interleaved);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_castsi512_si128(rows));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p + stride), _mm512_extracti32x4_epi32(rows, 1));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p + 2 * stride), _mm512_extracti32x4_epi32(rows, 2));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p + 3 * stride), _mm512_extracti32x4_epi32(rows, 3));
}
