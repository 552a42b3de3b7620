// Vec and VecInt of eight lanes, with AVX2 and FMA. A register tile is 6 rows x 2 vectors.
using Vec = __m256;
constexpr int kWidth = 8, kRows = 6;

DIFFWAVE_INLINE Vec load(const float* p) { return _mm256_loadu_ps(p); }
DIFFWAVE_INLINE void store(float* p, Vec v) { _mm256_storeu_ps(p, v); }
DIFFWAVE_INLINE Vec broadcast(float x) { return _mm256_set1_ps(x); }
DIFFWAVE_INLINE Vec fma(Vec a, Vec b, Vec c) { return _mm256_fmadd_ps(a, b, c); }
DIFFWAVE_INLINE Vec maximum(Vec a, Vec b) { return _mm256_max_ps(a, b); }
DIFFWAVE_INLINE Vec minimum(Vec a, Vec b) { return _mm256_min_ps(a, b); }
DIFFWAVE_INLINE Vec clamp_exponent(Vec x) { return maximum(_mm256_min_ps(x, broadcast(60.0f)), broadcast(-60.0f)); }
DIFFWAVE_INLINE Vec round_nearest(Vec x) { return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
// p * 2^n for integral n
DIFFWAVE_INLINE Vec scale(Vec p, Vec n) {
  const __m256i exponent = _mm256_slli_epi32(_mm256_cvtps_epi32(n), 23);
  return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(p), exponent));
}

using VecInt = __m256i;

DIFFWAVE_INLINE VecInt load(const int32_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
DIFFWAVE_INLINE void store(int32_t* p, VecInt v) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), v); }
DIFFWAVE_INLINE Vec to_float(VecInt v) { return _mm256_cvtepi32_ps(v); }
DIFFWAVE_INLINE VecInt to_int(Vec v) { return _mm256_cvtps_epi32(v); }  // to nearest
DIFFWAVE_INLINE VecInt sum(VecInt a, VecInt b) { return _mm256_add_epi32(a, b); }
DIFFWAVE_INLINE VecInt load_weights(const int8_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
DIFFWAVE_INLINE VecInt broadcast_group(const uint8_t* p) {
  int32_t group;
  __builtin_memcpy(&group, p, sizeof group);
  return _mm256_set1_epi32(group);
}
DIFFWAVE_INLINE VecInt load(const int8_t* p) {
  return _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
}
// v * 2^count + sum
DIFFWAVE_INLINE VecInt add_shifted(VecInt v, VecInt count, VecInt sum) {
  return _mm256_add_epi32(_mm256_sllv_epi32(v, count), sum);
}
// Rounds to nearest and saturates.
DIFFWAVE_INLINE __m128i to_int8(Vec v) {
  const __m256i wide = to_int(v);
  const __m128i half = _mm_packs_epi32(_mm256_castsi256_si128(wide), _mm256_extracti128_si256(wide, 1));
  return _mm_packs_epi16(half, half);
}
DIFFWAVE_INLINE void store(int8_t* p, Vec v) { _mm_storel_epi64(reinterpret_cast<__m128i*>(p), to_int8(v)); }
// Stores v + kZeroPoint.
DIFFWAVE_INLINE void store(uint8_t* p, Vec v) {
  _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_xor_si128(to_int8(v), _mm_set1_epi8(-128)));
}
