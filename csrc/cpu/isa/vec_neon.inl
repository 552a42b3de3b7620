// Four lanes, NEON.
using Vec = float32x4_t;
constexpr int kWidth = 4, kRows = 12;

DIFFWAVE_INLINE Vec load(const float* p) { return vld1q_f32(p); }
DIFFWAVE_INLINE void store(float* p, Vec v) { vst1q_f32(p, v); }
DIFFWAVE_INLINE Vec broadcast(float x) { return vdupq_n_f32(x); }
DIFFWAVE_INLINE Vec fma(Vec a, Vec b, Vec c) { return vfmaq_f32(c, a, b); }
// Of a NaN and a number these give the number, as on x86 where the number comes second; vmaxq_f32 gives the NaN.
DIFFWAVE_INLINE Vec maximum(Vec a, Vec b) { return vmaxnmq_f32(a, b); }
DIFFWAVE_INLINE Vec clamp_exponent(Vec x) { return maximum(vminnmq_f32(x, broadcast(60.0f)), broadcast(-60.0f)); }
DIFFWAVE_INLINE Vec round_nearest(Vec x) { return vrndnq_f32(x); }
// p * 2^n for integral n
DIFFWAVE_INLINE Vec scale(Vec p, Vec n) {
  const int32x4_t exponent = vshlq_n_s32(vcvtq_s32_f32(n), 23);
  return vreinterpretq_f32_s32(vaddq_s32(vreinterpretq_s32_f32(p), exponent));
}

using VecInt = int32x4_t;

DIFFWAVE_INLINE VecInt load(const int32_t* p) { return vld1q_s32(p); }
DIFFWAVE_INLINE void store(int32_t* p, VecInt v) { vst1q_s32(p, v); }
DIFFWAVE_INLINE Vec to_float(VecInt v) { return vcvtq_f32_s32(v); }
DIFFWAVE_INLINE VecInt load_weights(const int8_t* p) { return vreinterpretq_s32_s8(vld1q_s8(p)); }
DIFFWAVE_INLINE VecInt broadcast_group(const uint8_t* p) {
  int32_t group;
  __builtin_memcpy(&group, p, sizeof group);
  return vdupq_n_s32(group);
}
// Four products to a lane, without the dot product that not every 64-bit Arm has.
DIFFWAVE_INLINE VecInt dot(VecInt acc, VecInt x, VecInt w, const uint8_t*) {
  const uint8x16_t bytes = vreinterpretq_u8_s32(x);
  const int8x16_t weights = vreinterpretq_s8_s32(w);
  const int16x8_t x0 = vreinterpretq_s16_u16(vmovl_u8(vget_low_u8(bytes))), w0 = vmovl_s8(vget_low_s8(weights));
  const int16x8_t x1 = vreinterpretq_s16_u16(vmovl_high_u8(bytes)), w1 = vmovl_high_s8(weights);
  const int32x4_t low = vpaddq_s32(vmull_s16(vget_low_s16(x0), vget_low_s16(w0)), vmull_high_s16(x0, w0));
  const int32x4_t high = vpaddq_s32(vmull_s16(vget_low_s16(x1), vget_low_s16(w1)), vmull_high_s16(x1, w1));
  return vaddq_s32(acc, vpaddq_s32(low, high));
}
// v + kZero, to nearest, what is out of range cut off
DIFFWAVE_INLINE void store_byte(uint8_t* p, Vec v) {
  const int8x8_t bytes = vqmovn_s16(vcombine_s16(vqmovn_s32(vcvtnq_s32_f32(v)), vdup_n_s16(0)));
  const uint32x2_t word = vreinterpret_u32_u8(veor_u8(vreinterpret_u8_s8(bytes), vdup_n_u8(kZero)));
  const uint32_t bits = vget_lane_u32(word, 0);
  __builtin_memcpy(p, &bits, sizeof bits);
}
DIFFWAVE_INLINE Vec quotient(Vec a, Vec b, const uint8_t*) { return a / b; }
