// The int8 gate (gate_table.h) of four rows at once, with 32 int16 per vector. The packing instruction leaves the rows
// interleaved, four channels of each in turn. They stay so: the projection reads four channels of one row at a time.
constexpr int kGatedRows = 4;

DIFFWAVE_INLINE __m512i to_int16(Vec a, Vec b) {
  return _mm512_packs_epi32(_mm512_cvtps_epi32(a), _mm512_cvtps_epi32(b));
}

DIFFWAVE_INLINE __m512i interpolate(const int16_t* values, const int16_t* steps, __m512i arguments) {
  const __m512i index = _mm512_srli_epi16(arguments, 10), part = _mm512_slli_epi16(arguments, 6);
  const __m512i value = _mm512_permutex2var_epi16(_mm512_load_si512(values), index, _mm512_load_si512(values + 32));
  const __m512i step = _mm512_permutex2var_epi16(_mm512_load_si512(steps), index, _mm512_load_si512(steps + 32));
  return _mm512_add_epi16(value, _mm512_mulhi_epu16(part, step));
}

// int16 gated values of two rows, without kZeroPoint.
DIFFWAVE_INLINE __m512i gated_int16(const Vec* sigmoid, const Vec* tanh, const GateTable& table) {
  const __m512i s = interpolate(table.sigmoid, table.sigmoid_step, to_int16(sigmoid[0], sigmoid[1]));
  const __m512i t = interpolate(table.tanh, table.tanh_step, to_int16(tanh[0], tanh[1]));
  return _mm512_mulhrs_epi16(_mm512_mulhrs_epi16(s, t), _mm512_set1_epi16(127));
}

DIFFWAVE_INLINE __m512i gated_uint8(const Vec* sigmoid, const Vec* tanh, const GateTable& table) {
  const __m512i packed =
      _mm512_packs_epi16(gated_int16(sigmoid, tanh, table), gated_int16(sigmoid + 2, tanh + 2, table));
  return _mm512_xor_si512(packed, _mm512_set1_epi8(-128));
}

DIFFWAVE_INLINE void store_gated(uint8_t* p, const Vec* sigmoid, const Vec* tanh, const GateTable& table) {
  _mm512_storeu_si512(p, gated_uint8(sigmoid, tanh, table));
}
