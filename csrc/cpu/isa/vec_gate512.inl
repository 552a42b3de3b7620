// Gated bytes of four rows at once, with 32 words to a vector: see gate_table.h. What packs leaves in a vector are, for
// every four channels, those of the four rows, and so they stay: the projection takes four channels of one row at a
// time.
constexpr int kGatedRows = 4;

DIFFWAVE_INLINE __m512i to_words(Vec a, Vec b) {
  return _mm512_packs_epi32(_mm512_cvtps_epi32(a), _mm512_cvtps_epi32(b));
}

DIFFWAVE_INLINE __m512i on_line(const int16_t* values, const int16_t* steps, __m512i words) {
  const __m512i index = _mm512_srli_epi16(words, 10), part = _mm512_slli_epi16(words, 6);
  const __m512i value = _mm512_permutex2var_epi16(_mm512_load_si512(values), index, _mm512_load_si512(values + 32));
  const __m512i step = _mm512_permutex2var_epi16(_mm512_load_si512(steps), index, _mm512_load_si512(steps + 32));
  return _mm512_add_epi16(value, _mm512_mulhi_epu16(part, step));
}

// Of two rows.
DIFFWAVE_INLINE __m512i gated_words(const Vec* sigmoid, const Vec* tanh, const GateTable& table) {
  const __m512i s = on_line(table.sigmoid, table.sigmoid_step, to_words(sigmoid[0], sigmoid[1]));
  const __m512i t = on_line(table.tanh, table.tanh_step, to_words(tanh[0], tanh[1]));
  return _mm512_mulhrs_epi16(_mm512_mulhrs_epi16(s, t), _mm512_set1_epi16(127));
}

DIFFWAVE_INLINE void store_gated(uint8_t* p, const Vec* sigmoid, const Vec* tanh, const GateTable& table) {
  const __m512i bytes =
      _mm512_packs_epi16(gated_words(sigmoid, tanh, table), gated_words(sigmoid + 2, tanh + 2, table));
  _mm512_storeu_si512(p, _mm512_xor_si512(bytes, _mm512_set1_epi8(-128)));
}
