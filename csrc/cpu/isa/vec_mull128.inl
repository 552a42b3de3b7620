// The int8 dot product, four products per lane, for 64-bit Arm without the dot product instruction.
constexpr int kDotZeroPoint = kZeroPoint;
constexpr bool kInt16Products = false;

DIFFWAVE_INLINE VecInt dot(VecInt acc, VecInt x, VecInt w, const uint8_t*) {
  const uint8x16_t bytes = vreinterpretq_u8_s32(x);
  const int8x16_t weights = vreinterpretq_s8_s32(w);
  const int16x8_t x0 = vreinterpretq_s16_u16(vmovl_u8(vget_low_u8(bytes))), w0 = vmovl_s8(vget_low_s8(weights));
  const int16x8_t x1 = vreinterpretq_s16_u16(vmovl_high_u8(bytes)), w1 = vmovl_high_s8(weights);
  const int32x4_t low = vpaddq_s32(vmull_s16(vget_low_s16(x0), vget_low_s16(w0)), vmull_high_s16(x0, w0));
  const int32x4_t high = vpaddq_s32(vmull_s16(vget_low_s16(x1), vget_low_s16(w1)), vmull_high_s16(x1, w1));
  return vaddq_s32(acc, vpaddq_s32(low, high));
}
