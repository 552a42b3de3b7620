// Vec and VecInt of four lanes, with NEON. A register tile is 12 rows x 2 vectors.
using Vec = float32x4_t;
constexpr int kWidth = 4, kRows = 12;

DIFFWAVE_INLINE Vec load(const float* p) { return vld1q_f32(p); }
DIFFWAVE_INLINE void store(float* p, Vec v) { vst1q_f32(p, v); }
DIFFWAVE_INLINE Vec broadcast(float x) { return vdupq_n_f32(x); }
DIFFWAVE_INLINE Vec fma(Vec a, Vec b, Vec c) { return vfmaq_f32(c, a, b); }
// For a NaN and a number, vmaxnmq_f32 returns the number, like x86 with the number second. vmaxq_f32 returns the NaN.
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
DIFFWAVE_INLINE VecInt to_int(Vec v) { return vcvtnq_s32_f32(v); }  // to nearest
DIFFWAVE_INLINE VecInt sum(VecInt a, VecInt b) { return vaddq_s32(a, b); }
DIFFWAVE_INLINE VecInt load_weights(const int8_t* p) { return vreinterpretq_s32_s8(vld1q_s8(p)); }
DIFFWAVE_INLINE VecInt broadcast_group(const uint8_t* p) {
  int32_t group;
  __builtin_memcpy(&group, p, sizeof group);
  return vdupq_n_s32(group);
}
DIFFWAVE_INLINE VecInt load(const int8_t* p) {
  uint32_t bits;
  __builtin_memcpy(&bits, p, sizeof bits);
  return vmovl_s16(vget_low_s16(vmovl_s8(vreinterpret_s8_u32(vdup_n_u32(bits)))));
}
// v * 2^count + sum
DIFFWAVE_INLINE VecInt add_shifted(VecInt v, VecInt count, VecInt sum) { return vaddq_s32(vshlq_s32(v, count), sum); }
// Rounds to nearest and saturates.
DIFFWAVE_INLINE uint32_t to_int8(Vec v) {
  const int8x8_t bytes = vqmovn_s16(vcombine_s16(vqmovn_s32(to_int(v)), vdup_n_s16(0)));
  return vget_lane_u32(vreinterpret_u32_s8(bytes), 0);
}
DIFFWAVE_INLINE void store(int8_t* p, Vec v) {
  const uint32_t bits = to_int8(v);
  __builtin_memcpy(p, &bits, sizeof bits);
}
// Stores v + kZeroPoint.
DIFFWAVE_INLINE void store(uint8_t* p, Vec v) {
  const uint32_t bits = to_int8(v) ^ 0x80808080u;
  __builtin_memcpy(p, &bits, sizeof bits);
}
