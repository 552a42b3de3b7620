// Four products of bytes to a lane in one instruction. GCC 12 keeps the sums of its intrinsic on the stack.
constexpr int kDotZero = kZero;
constexpr bool kWords = false;

DIFFWAVE_INLINE VecInt dot(VecInt acc, VecInt x, VecInt w, const uint8_t*) {
  asm("vpdpbusd %2, %1, %0" : "+v"(acc) : "v"(x), "v"(w));
  return acc;
}
