// The int8 dot product, four products per lane, without VNNI.
constexpr int kDotZeroPoint = kZeroPoint;
constexpr bool kInt16Products = false;

DIFFWAVE_INLINE VecInt dot(VecInt acc, VecInt x, VecInt w, const uint8_t*) {
  const VecInt even =
      _mm512_madd_epi16(_mm512_and_si512(x, _mm512_set1_epi16(255)), _mm512_srai_epi16(_mm512_slli_epi16(w, 8), 8));
  const VecInt odd = _mm512_madd_epi16(_mm512_srli_epi16(x, 8), _mm512_srai_epi16(w, 8));
  return _mm512_add_epi32(acc, _mm512_add_epi32(even, odd));
}
