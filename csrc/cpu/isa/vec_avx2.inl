// Eight lanes, AVX2 and FMA.
using Vec = __m256;
constexpr int kWidth = 8, kRows = 6;

DIFFWAVE_INLINE Vec load(const float* p) { return _mm256_loadu_ps(p); }
DIFFWAVE_INLINE void store(float* p, Vec v) { _mm256_storeu_ps(p, v); }
DIFFWAVE_INLINE Vec broadcast(float x) { return _mm256_set1_ps(x); }
DIFFWAVE_INLINE Vec fma(Vec a, Vec b, Vec c) { return _mm256_fmadd_ps(a, b, c); }
DIFFWAVE_INLINE Vec maximum(Vec a, Vec b) { return _mm256_max_ps(a, b); }
DIFFWAVE_INLINE Vec clamp_exponent(Vec x) { return maximum(_mm256_min_ps(x, broadcast(60.0f)), broadcast(-60.0f)); }
DIFFWAVE_INLINE Vec round_nearest(Vec x) { return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
// p * 2^n for integral n
DIFFWAVE_INLINE Vec scale(Vec p, Vec n) {
  const __m256i exponent = _mm256_slli_epi32(_mm256_cvtps_epi32(n), 23);
  return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(p), exponent));
}
