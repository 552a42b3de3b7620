// Vec and VecInt of sixteen lanes, with AVX-512 F. A register tile is 12 rows x 2 vectors.
using Vec = __m512;
constexpr int kWidth = 16, kRows = 12;

DIFFWAVE_INLINE Vec load(const float* p) { return _mm512_loadu_ps(p); }
DIFFWAVE_INLINE void store(float* p, Vec v) { _mm512_storeu_ps(p, v); }
DIFFWAVE_INLINE Vec broadcast(float x) { return _mm512_set1_ps(x); }
DIFFWAVE_INLINE Vec fma(Vec a, Vec b, Vec c) { return _mm512_fmadd_ps(a, b, c); }
DIFFWAVE_INLINE Vec maximum(Vec a, Vec b) { return _mm512_max_ps(a, b); }
// Needs no lower bound: scale() underflows to zero, and in float32 1 + 2^-60 is 1, too.
DIFFWAVE_INLINE Vec clamp_exponent(Vec x) { return _mm512_min_ps(x, broadcast(60.0f)); }
DIFFWAVE_INLINE Vec round_nearest(Vec x) {
  return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
// p * 2^n for integral n
DIFFWAVE_INLINE Vec scale(Vec p, Vec n) { return _mm512_scalef_ps(p, n); }

using VecInt = __m512i;

DIFFWAVE_INLINE VecInt load(const int32_t* p) { return _mm512_loadu_si512(p); }
DIFFWAVE_INLINE void store(int32_t* p, VecInt v) { _mm512_storeu_si512(p, v); }
DIFFWAVE_INLINE Vec to_float(VecInt v) { return _mm512_cvtepi32_ps(v); }
DIFFWAVE_INLINE VecInt to_int(Vec v) { return _mm512_cvtps_epi32(v); }  // to nearest
DIFFWAVE_INLINE VecInt sum(VecInt a, VecInt b) { return _mm512_add_epi32(a, b); }
DIFFWAVE_INLINE VecInt load_weights(const int8_t* p) { return _mm512_loadu_si512(p); }
DIFFWAVE_INLINE VecInt broadcast_group(const uint8_t* p) {
  int32_t group;
  __builtin_memcpy(&group, p, sizeof group);
  return _mm512_set1_epi32(group);
}
DIFFWAVE_INLINE VecInt load(const int8_t* p) {
  return _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
// v * 2^count + sum
DIFFWAVE_INLINE VecInt add_shifted(VecInt v, VecInt count, VecInt sum) {
  return _mm512_add_epi32(_mm512_sllv_epi32(v, count), sum);
}
// Rounds to nearest and saturates.
DIFFWAVE_INLINE __m128i to_int8(Vec v) { return _mm512_cvtsepi32_epi8(to_int(v)); }
DIFFWAVE_INLINE void store(int8_t* p, Vec v) { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), to_int8(v)); }
// Stores v + kZeroPoint.
DIFFWAVE_INLINE void store(uint8_t* p, Vec v) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm_xor_si128(to_int8(v), _mm_set1_epi8(-128)));
}
