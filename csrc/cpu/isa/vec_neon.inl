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
