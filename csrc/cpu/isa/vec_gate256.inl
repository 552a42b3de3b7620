// The int8 gate (gate_table.h) of two rows at once, with sixteen int16 per vector.
constexpr int kGatedRows = 2;

DIFFWAVE_INLINE __m256i to_int16(Vec a, Vec b) {
  const Vec limit = broadcast(32767.0f);
  return _mm256_packs_epi32(_mm256_cvtps_epi32(minimum(a, limit)), _mm256_cvtps_epi32(minimum(b, limit)));
}

// One byte of each of the table's entries: for the sigmoid in the low half, for the tanh in the high half. index[i]
// selects within table[i], a group of 16 nodes; its high bit is set where the node lies in another group, which yields
// zero.
DIFFWAVE_INLINE __m256i look_up(const uint8_t (&table)[4][32], const __m256i (&index)[4]) {
  __m256i result = _mm256_setzero_si256();
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    const __m256i entries = _mm256_load_si256(reinterpret_cast<const __m256i*>(table[i]));
    result = _mm256_or_si256(result, _mm256_shuffle_epi8(entries, index[i]));
  }
  return result;
}

DIFFWAVE_INLINE __m256i interpolate(__m256i value, __m256i step, __m256i arguments) {
  return _mm256_add_epi16(value, _mm256_mulhi_epu16(_mm256_slli_epi16(arguments, 6), step));
}

// int16 gated values without kZeroPoint, four of each row in turn.
DIFFWAVE_INLINE __m256i gated_int16(const Vec* sigmoid, const Vec* tanh, const GateTable& table) {
  const __m256i s = to_int16(sigmoid[0], sigmoid[1]), t = to_int16(tanh[0], tanh[1]);
  const __m256i low = _mm256_permute2x128_si256(s, t, 0x20), high = _mm256_permute2x128_si256(s, t, 0x31);
  const __m256i node = _mm256_packus_epi16(_mm256_srli_epi16(low, 10), _mm256_srli_epi16(high, 10));
  __m256i index[4];
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i)
    index[i] =
        _mm256_adds_epu8(_mm256_xor_si256(node, _mm256_set1_epi8(static_cast<char>(16 * i))), _mm256_set1_epi8(0x70));
  const __m256i value0 = look_up(table.bytes[0], index), value1 = look_up(table.bytes[1], index);
  const __m256i step0 = look_up(table.bytes[2], index), step1 = look_up(table.bytes[3], index);
  const __m256i on_low = interpolate(_mm256_unpacklo_epi8(value0, value1), _mm256_unpacklo_epi8(step0, step1), low);
  const __m256i on_high = interpolate(_mm256_unpackhi_epi8(value0, value1), _mm256_unpackhi_epi8(step0, step1), high);
  const __m256i product = _mm256_mulhrs_epi16(_mm256_permute2x128_si256(on_low, on_high, 0x20),
                                              _mm256_permute2x128_si256(on_low, on_high, 0x31));
  return _mm256_mulhrs_epi16(product, _mm256_set1_epi16(127));
}

DIFFWAVE_INLINE void store_gated(uint8_t* p, const Vec* sigmoid, const Vec* tanh, const GateTable& table) {
  const __m256i values = gated_int16(sigmoid, tanh, table);
  const __m128i packed = _mm_packs_epi16(_mm256_castsi256_si128(values), _mm256_extracti128_si256(values, 1));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm_xor_si128(packed, _mm_set1_epi8(-128)));
}

// Stores int16, each row separately.
DIFFWAVE_INLINE void store_gated_int16(int16_t* p, int64_t channels, const Vec* sigmoid, const Vec* tanh,
                                       const GateTable& table) {
  const __m256i values = _mm256_add_epi16(gated_int16(sigmoid, tanh, table), _mm256_set1_epi16(kZeroPoint));
  const __m256i rows = _mm256_permute4x64_epi64(values, 0xd8);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_castsi256_si128(rows));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p + channels), _mm256_extracti128_si256(rows, 1));
}
