// The int8 gate (gate_table.h) of four rows at once. Output rows are interleaved like those of AVX-512: four channels
// of each row in turn.
constexpr int kGatedRows = 4;

struct Int16x16 {
  int16x8_t low, high;
};

// gate_argument of four vectors.
DIFFWAVE_INLINE Int16x16 to_int16(const Vec* v) {
  const auto argument = [](Vec x) { return vqmovn_s32(vcvtnq_s32_f32(x)); };
  return {vcombine_s16(argument(v[0]), argument(v[1])), vcombine_s16(argument(v[2]), argument(v[3]))};
}

// table[index] for sixteen indices.
DIFFWAVE_INLINE Int16x16 look_up(const int16_t* table, uint8x16_t index) {
  uint8x16x4_t low, high;
  for (int i = 0; i < 4; ++i) {
    const uint8x16x2_t halves = vld2q_u8(reinterpret_cast<const uint8_t*>(table + 16 * i));
    low.val[i] = halves.val[0];
    high.val[i] = halves.val[1];
  }
  const uint8x16_t l = vqtbl4q_u8(low, index), h = vqtbl4q_u8(high, index);
  return {vreinterpretq_s16_u8(vzip1q_u8(l, h)), vreinterpretq_s16_u8(vzip2q_u8(l, h))};
}

// value + (part * step >> 16)
DIFFWAVE_INLINE int16x8_t interpolate(int16x8_t value, int16x8_t step, int16x8_t argument) {
  const uint16x8_t part = vreinterpretq_u16_s16(vshlq_n_s16(argument, 6)), steps = vreinterpretq_u16_s16(step);
  const uint16x4_t low = vshrn_n_u32(vmull_u16(vget_low_u16(part), vget_low_u16(steps)), 16);
  const uint16x8_t whole = vshrn_high_n_u32(low, vmull_high_u16(part, steps), 16);
  return vaddq_s16(value, vreinterpretq_s16_u16(whole));
}

DIFFWAVE_INLINE Int16x16 interpolate(const int16_t* values, const int16_t* steps, Int16x16 arguments) {
  const auto index = [](int16x8_t argument) { return vmovn_u16(vshrq_n_u16(vreinterpretq_u16_s16(argument), 10)); };
  const uint8x16_t indices = vcombine_u8(index(arguments.low), index(arguments.high));
  const Int16x16 value = look_up(values, indices), step = look_up(steps, indices);
  return {interpolate(value.low, step.low, arguments.low), interpolate(value.high, step.high, arguments.high)};
}

DIFFWAVE_INLINE void store_gated(uint8_t* p, const Vec* sigmoid, const Vec* tanh, const GateTable& table) {
  const Int16x16 s = interpolate(table.sigmoid, table.sigmoid_step, to_int16(sigmoid));
  const Int16x16 t = interpolate(table.tanh, table.tanh_step, to_int16(tanh));
  const auto gated = [](int16x8_t a, int16x8_t b) {
    return vmovn_s16(vqrdmulhq_s16(vqrdmulhq_s16(a, b), vdupq_n_s16(127)));
  };
  const int8x16_t packed = vcombine_s8(gated(s.low, t.low), gated(s.high, t.high));
  vst1q_u8(p, vreinterpretq_u8_s8(veorq_s8(packed, vdupq_n_s8(-128))));
}
