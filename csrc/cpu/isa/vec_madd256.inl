// Products of bytes as words, without VNNI. vpmaddubsw would do in fewer steps, but it cuts sums of two off at 16 bits;
// moving the sign of x to w, by which no sum reaches that, is as many steps again.
constexpr int kDotZero = kZero;
constexpr bool kWords = true;

// Two to a lane. In assembly, as GCC would have more than one product wait and run out of registers.
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

// Bytes 0 and 2, or 1 and 3, of every lane as words. A mask would take the last register.
DIFFWAVE_INLINE VecInt every_other_byte(VecInt x, bool odd) {
  return _mm256_srli_epi16(odd ? x : _mm256_slli_epi16(x, 8), 8);
}

// Of products that are twice as large
DIFFWAVE_INLINE VecInt shared_sum(VecInt m2, VecInt m3) { return _mm256_srai_epi32(sum(m2, m3), 1); }
DIFFWAVE_INLINE VecInt shared_difference(VecInt m2, VecInt m3) {
  return _mm256_srai_epi32(_mm256_sub_epi32(m2, m3), 1);
}

DIFFWAVE_INLINE __m128i load_words(const uint8_t* p) {
  return _mm_cvtepu8_epi16(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
}
DIFFWAVE_INLINE void store(int16_t* p, __m128i v) { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), v); }
// a - c, b + c, c - b and e - b of eight bytes each
DIFFWAVE_INLINE void mix_words(const uint8_t* a, const uint8_t* b, const uint8_t* c, const uint8_t* e,
                               int16_t* const (&mixed)[4], long to) {
  const __m128i b8 = load_words(b), c8 = load_words(c);
  store(mixed[0] + to, _mm_sub_epi16(load_words(a), c8));
  store(mixed[1] + to, _mm_add_epi16(b8, c8));
  store(mixed[2] + to, _mm_sub_epi16(c8, b8));
  store(mixed[3] + to, _mm_sub_epi16(load_words(e), b8));
}
