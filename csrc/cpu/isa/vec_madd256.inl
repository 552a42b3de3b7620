// The int8 dot product without VNNI: int8 is multiplied as int16, two products per lane. vpmaddubsw needs fewer
// instructions, but it saturates sums of two products at 16 bits. Avoiding that by moving the sign of x to w takes as
// many instructions as this.
constexpr int kDotZeroPoint = kZeroPoint;
constexpr bool kInt16Products = true;

// Two products per lane. In assembly, because GCC otherwise keeps several products pending and runs out of registers.
DIFFWAVE_INLINE VecInt dot(VecInt acc, VecInt x, VecInt w, const int16_t*) {
  VecInt product;
  asm("vpmaddwd %2, %3, %0\n\tvpaddd %0, %1, %1" : "=&x"(product), "+x"(acc) : "x"(w), "x"(x));
  return acc;
}
DIFFWAVE_INLINE VecInt load_weights(const int16_t* p) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
}
DIFFWAVE_INLINE VecInt broadcast_group(const int16_t* p) {
  int32_t group;
  __builtin_memcpy(&group, p, sizeof group);
  return _mm256_set1_epi32(group);
}

// Bytes 0 and 2, or 1 and 3, of every lane as int16. By shifts, because a mask would take the last register.
DIFFWAVE_INLINE VecInt every_other_byte(VecInt x, bool odd) {
  VecInt high = odd ? x : _mm256_slli_epi16(x, 8);
#if defined(__clang__)
  asm("" : "+x"(high));  // Clang would make a mask of the two shifts
#endif
  return _mm256_srli_epi16(high, 8);
}

// (m2 + m3) / 2 and (m2 - m3) / 2: the weights of m2 and m3 are stored doubled (winograd_int8.inl).
DIFFWAVE_INLINE VecInt shared_sum(VecInt m2, VecInt m3) { return _mm256_srai_epi32(sum(m2, m3), 1); }
DIFFWAVE_INLINE VecInt shared_difference(VecInt m2, VecInt m3) {
  return _mm256_srai_epi32(_mm256_sub_epi32(m2, m3), 1);
}

DIFFWAVE_INLINE __m128i load_as_int16(const uint8_t* p) {
  return _mm_cvtepu8_epi16(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
}
DIFFWAVE_INLINE void store(int16_t* p, __m128i v) { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), v); }
// Winograd's input transform of eight channels: a - c, b + c, c - b and e - b.
DIFFWAVE_INLINE void transform_input_int16(const uint8_t* a, const uint8_t* b, const uint8_t* c, const uint8_t* e,
                                           int16_t* const (&transformed)[4], int64_t to) {
  const __m128i b8 = load_as_int16(b), c8 = load_as_int16(c);
  store(transformed[0] + to, _mm_sub_epi16(load_as_int16(a), c8));
  store(transformed[1] + to, _mm_add_epi16(b8, c8));
  store(transformed[2] + to, _mm_sub_epi16(c8, b8));
  store(transformed[3] + to, _mm_sub_epi16(load_as_int16(e), b8));
}
