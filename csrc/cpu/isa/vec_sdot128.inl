// The int8 dot product, four products per lane, with sdot. sdot takes two signed operands, so x loses its zero point.
constexpr int kDotZeroPoint = 0;
constexpr bool kInt16Products = false;

// Enables the instruction in the assembler only: the compiler must not use other instructions of that processor.
#if defined(__ARM_FEATURE_DOTPROD)
#define DIFFWAVE_SDOT "sdot"
#else
#define DIFFWAVE_SDOT ".arch armv8.2-a+dotprod\n\tsdot"
#endif
DIFFWAVE_INLINE VecInt dot(VecInt acc, VecInt x, VecInt w, const uint8_t*) {
  x = veorq_s32(x, vdupq_n_s32(static_cast<int32_t>(0x80808080u)));
  asm(DIFFWAVE_SDOT " %0.4s, %1.16b, %2.16b" : "+w"(acc) : "w"(x), "w"(w));
  return acc;
}
