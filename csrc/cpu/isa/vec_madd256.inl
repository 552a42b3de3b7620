// Four products of bytes to a lane without VNNI. vpmaddubsw would do in fewer steps, but it cuts sums of two off at 16
// bits; moving the sign of x to w, by which no sum reaches that, is as many steps again.
constexpr int kDotZero = kZero;

DIFFWAVE_INLINE VecInt dot(VecInt acc, VecInt x, VecInt w, const uint8_t*) {
  const VecInt even =
      _mm256_madd_epi16(_mm256_and_si256(x, _mm256_set1_epi16(255)), _mm256_srai_epi16(_mm256_slli_epi16(w, 8), 8));
  const VecInt odd = _mm256_madd_epi16(_mm256_srli_epi16(x, 8), _mm256_srai_epi16(w, 8));
  return _mm256_add_epi32(acc, _mm256_add_epi32(even, odd));
}
