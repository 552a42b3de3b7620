// Sixteen lanes, AVX-512 F.
using Vec = __m512;
constexpr int kWidth = 16, kRows = 12;

DIFFWAVE_INLINE Vec load(const float* p) { return _mm512_loadu_ps(p); }
DIFFWAVE_INLINE void store(float* p, Vec v) { _mm512_storeu_ps(p, v); }
DIFFWAVE_INLINE Vec broadcast(float x) { return _mm512_set1_ps(x); }
DIFFWAVE_INLINE Vec fma(Vec a, Vec b, Vec c) { return _mm512_fmadd_ps(a, b, c); }
DIFFWAVE_INLINE Vec maximum(Vec a, Vec b) { return _mm512_max_ps(a, b); }
// No lower bound is needed: scale() underflows to zero, and 1 + 2^-60 is 1 as well.
DIFFWAVE_INLINE Vec clamp_exponent(Vec x) { return _mm512_min_ps(x, broadcast(60.0f)); }
DIFFWAVE_INLINE Vec round_nearest(Vec x) {
  return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
// p * 2^n for integral n
DIFFWAVE_INLINE Vec scale(Vec p, Vec n) { return _mm512_scalef_ps(p, n); }
