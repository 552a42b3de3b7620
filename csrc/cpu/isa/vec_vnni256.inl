// Four products of bytes to a lane in one instruction: that of AVX-VNNI, or, to try the tier on a processor without it,
// the same as AVX-512 spells it.
#if defined(DIFFWAVE_VNNI_AS_AVX512)
#define DIFFWAVE_VPDPBUSD "vpdpbusd"
#else
#define DIFFWAVE_VPDPBUSD "%{vex%} vpdpbusd"
#endif
constexpr int kDotZero = kZero;
constexpr bool kWords = false;

DIFFWAVE_INLINE VecInt dot(VecInt acc, VecInt x, VecInt w, const uint8_t*) {
  asm(DIFFWAVE_VPDPBUSD " %2, %1, %0" : "+x"(acc) : "x"(x), "x"(w));
  return acc;
}
