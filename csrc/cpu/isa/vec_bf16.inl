// bf16 on top of vec_avx512.inl: loads, stores and the dot product of two inputs per lane.
DIFFWAVE_INLINE Vec load(const Bf16* p) {
  const __m256i half = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}
DIFFWAVE_INLINE void store(Bf16* p, Vec v) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), (__m256i)_mm512_cvtneps_pbh(v));
}
DIFFWAVE_INLINE Vec load_weights(const Bf16* p) { return _mm512_castsi512_ps(_mm512_loadu_si512(p)); }
DIFFWAVE_INLINE Vec broadcast_group(const Bf16* p) {
  int32_t pair;
  __builtin_memcpy(&pair, p, sizeof pair);
  return _mm512_castsi512_ps(_mm512_set1_epi32(pair));
}
DIFFWAVE_INLINE Vec dot(Vec acc, Vec x, Vec w, const Bf16*) { return _mm512_dpbf16_ps(acc, (__m512bh)x, (__m512bh)w); }
// Accurate to 12 bits, more than bf16 keeps.
DIFFWAVE_INLINE Vec quotient(Vec a, Vec b, const Bf16*) { return a * _mm512_rcp14_ps(b); }
// 2^f on [-1/2, 1/2] with error 1e-4: minimax polynomial of degree 3.
DIFFWAVE_INLINE Vec exp2_fraction(Vec f, const Bf16*) {
  Vec p = fma(f, broadcast(0.055008955f), broadcast(0.24221097f));
  p = fma(p, f, broadcast(0.69328290f));
  return fma(p, f, broadcast(1.0f));
}
