// The int8 dot product, four products per lane, with AVX-VNNI's vpdpbusd. DIFFWAVE_VNNI_AS_AVX512 selects AVX-512's
// encoding of the instruction, to test the tier on a processor without AVX-VNNI.
#if defined(DIFFWAVE_VNNI_AS_AVX512)
#define DIFFWAVE_VPDPBUSD "vpdpbusd"
#else
#define DIFFWAVE_VPDPBUSD "%{vex%} vpdpbusd"
#endif
constexpr int kDotZeroPoint = kZeroPoint;
constexpr bool kInt16Products = false;

DIFFWAVE_INLINE VecInt dot(VecInt acc, VecInt x, VecInt w, const uint8_t*) {
  asm(DIFFWAVE_VPDPBUSD " %2, %1, %0" : "+x"(acc) : "x"(x), "x"(w));
  return acc;
}
