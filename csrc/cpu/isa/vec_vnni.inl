// The int8 dot product, four products per lane, with vpdpbusd. In assembly, because GCC 12 keeps the sums of the
// intrinsic on the stack.
constexpr int kDotZeroPoint = kZeroPoint;
constexpr bool kInt16Products = false;

DIFFWAVE_INLINE VecInt dot(VecInt acc, VecInt x, VecInt w, const uint8_t*) {
  asm("vpdpbusd %2, %1, %0" : "+v"(acc) : "v"(x), "v"(w));
  return acc;
}
