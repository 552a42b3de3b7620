// Gated bytes of two rows at once: see gate_table.h. Both halves of a table's entry are looked up in one.
constexpr int kGatedRows = 2;

// What gate_word makes of arguments, put on the line of a table.
DIFFWAVE_INLINE __m256i on_line(const int32_t* pairs, Vec argument) {
  const __m256i cut = _mm256_cvtps_epi32(minimum(maximum(argument, broadcast(-32768.0f)), broadcast(32767.0f)));
  const __m256i index = _mm256_and_si256(_mm256_srli_epi32(cut, 10), _mm256_set1_epi32(63));
  const __m256i pair = _mm256_i32gather_epi32(pairs, index, 4);
  const __m256i part = _mm256_and_si256(_mm256_slli_epi32(cut, 6), _mm256_set1_epi32(0xffff));
  return _mm256_add_epi32(_mm256_srai_epi32(pair, 16), _mm256_mulhi_epu16(part, pair));
}

DIFFWAVE_INLINE void store_gated(uint8_t* p, const Vec* sigmoid, const Vec* tanh, const GateTable& table) {
  const __m256i s =
      _mm256_packs_epi32(on_line(table.sigmoid_pairs, sigmoid[0]), on_line(table.sigmoid_pairs, sigmoid[1]));
  const __m256i t = _mm256_packs_epi32(on_line(table.tanh_pairs, tanh[0]), on_line(table.tanh_pairs, tanh[1]));
  const __m256i words = _mm256_mulhrs_epi16(_mm256_mulhrs_epi16(s, t), _mm256_set1_epi16(127));
  const __m128i bytes = _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm_xor_si128(bytes, _mm_set1_epi8(-128)));
}
