// Vec and VecInt of four lanes through the compiler's vector extension, which becomes SSE2, NEON or scalar code. A
// register tile is 6 rows x 2 vectors.
using Vec = float __attribute__((vector_size(16)));
using VecInt = int32_t __attribute__((vector_size(16)));
constexpr int kWidth = 4, kRows = 6;

DIFFWAVE_INLINE Vec load(const float* p) {
  Vec v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}
DIFFWAVE_INLINE void store(float* p, Vec v) { __builtin_memcpy(p, &v, sizeof v); }
DIFFWAVE_INLINE Vec broadcast(float x) { return Vec{x, x, x, x}; }
DIFFWAVE_INLINE Vec fma(Vec a, Vec b, Vec c) {
#ifdef __FP_FAST_FMAF
  return Vec{__builtin_fmaf(a[0], b[0], c[0]), __builtin_fmaf(a[1], b[1], c[1]), __builtin_fmaf(a[2], b[2], c[2]),
             __builtin_fmaf(a[3], b[3], c[3])};
#else
  return a * b + c;
#endif
}
DIFFWAVE_INLINE Vec maximum(Vec a, Vec b) { return a > b ? a : b; }
DIFFWAVE_INLINE Vec clamp_exponent(Vec x) {
  const Vec high = broadcast(60.0f);
  x = x < high ? x : high;
  return maximum(x, -high);
}
// Rounds to the nearest integer, ties to even, for |x| < 2^22.
DIFFWAVE_INLINE Vec round_nearest(Vec x) {
  const Vec magic = broadcast(12582912.0f);
  return (x + magic) - magic;
}
// p * 2^n for integral n
DIFFWAVE_INLINE Vec scale(Vec p, Vec n) {
  const VecInt exponent = __builtin_convertvector(n, VecInt) << 23;
  return (Vec)((VecInt)p + exponent);
}

DIFFWAVE_INLINE VecInt load(const int32_t* p) {
  VecInt v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}
DIFFWAVE_INLINE void store(int32_t* p, VecInt v) { __builtin_memcpy(p, &v, sizeof v); }
DIFFWAVE_INLINE Vec to_float(VecInt v) { return __builtin_convertvector(v, Vec); }
DIFFWAVE_INLINE VecInt to_int(Vec v) { return __builtin_convertvector(round_nearest(v), VecInt); }  // to nearest
DIFFWAVE_INLINE VecInt sum(VecInt a, VecInt b) { return a + b; }
DIFFWAVE_INLINE VecInt load_weights(const int8_t* p) {
  VecInt v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}
DIFFWAVE_INLINE VecInt broadcast_group(const uint8_t* p) {
  int32_t group;
  __builtin_memcpy(&group, p, sizeof group);
  return VecInt{group, group, group, group};
}
// The int8 dot product: four products per lane.
constexpr int kDotZeroPoint = kZeroPoint;
constexpr bool kInt16Products = false;
DIFFWAVE_INLINE VecInt dot(VecInt acc, VecInt x, VecInt w, const uint8_t*) {
  for (int byte = 0; byte < 4; ++byte) acc += (x >> (8 * byte) & 255) * (w << (24 - 8 * byte) >> 24);
  return acc;
}
DIFFWAVE_INLINE VecInt load(const int8_t* p) { return VecInt{p[0], p[1], p[2], p[3]}; }
// v * 2^count + sum
DIFFWAVE_INLINE VecInt add_shifted(VecInt v, VecInt count, VecInt sum) { return v * (1 << count) + sum; }
// Rounds to nearest and saturates.
DIFFWAVE_INLINE void store(int8_t* p, Vec v) {
  for (int i = 0; i < kWidth; ++i) p[i] = to_int8(v[i]);
}
// Stores v + kZeroPoint.
DIFFWAVE_INLINE void store(uint8_t* p, Vec v) {
  for (int i = 0; i < kWidth; ++i) p[i] = quantize(v[i], 1.0f);
}
