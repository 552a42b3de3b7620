// Gated bytes of four rows at once: see gate_table.h. They lie as those of AVX-512 do: four channels of every row in
// turn.
constexpr int kGatedRows = 4;

struct Words {
  int16x8_t low, high;
};

// What gate_word makes of arguments.
DIFFWAVE_INLINE Words to_words(const Vec* v) {
  const auto word = [](Vec x) { return vqmovn_s32(vcvtnq_s32_f32(x)); };
  return {vcombine_s16(word(v[0]), word(v[1])), vcombine_s16(word(v[2]), word(v[3]))};
}

// A table of words at sixteen places.
DIFFWAVE_INLINE Words look_up(const int16_t* table, uint8x16_t index) {
  uint8x16x4_t low, high;
  for (int i = 0; i < 4; ++i) {
    const uint8x16x2_t bytes = vld2q_u8(reinterpret_cast<const uint8_t*>(table + 16 * i));
    low.val[i] = bytes.val[0];
    high.val[i] = bytes.val[1];
  }
  const uint8x16_t l = vqtbl4q_u8(low, index), h = vqtbl4q_u8(high, index);
  return {vreinterpretq_s16_u8(vzip1q_u8(l, h)), vreinterpretq_s16_u8(vzip2q_u8(l, h))};
}

// value + (part * step >> 16)
DIFFWAVE_INLINE int16x8_t on_line(int16x8_t value, int16x8_t step, int16x8_t word) {
  const uint16x8_t part = vreinterpretq_u16_s16(vshlq_n_s16(word, 6)), steps = vreinterpretq_u16_s16(step);
  const uint16x4_t low = vshrn_n_u32(vmull_u16(vget_low_u16(part), vget_low_u16(steps)), 16);
  const uint16x8_t whole = vshrn_high_n_u32(low, vmull_high_u16(part, steps), 16);
  return vaddq_s16(value, vreinterpretq_s16_u16(whole));
}

DIFFWAVE_INLINE Words on_line(const int16_t* values, const int16_t* steps, Words words) {
  const auto index = [](int16x8_t word) { return vmovn_u16(vshrq_n_u16(vreinterpretq_u16_s16(word), 10)); };
  const uint8x16_t at = vcombine_u8(index(words.low), index(words.high));
  const Words value = look_up(values, at), step = look_up(steps, at);
  return {on_line(value.low, step.low, words.low), on_line(value.high, step.high, words.high)};
}

DIFFWAVE_INLINE void store_gated(uint8_t* p, const Vec* sigmoid, const Vec* tanh, const GateTable& table) {
  const Words s = on_line(table.sigmoid, table.sigmoid_step, to_words(sigmoid));
  const Words t = on_line(table.tanh, table.tanh_step, to_words(tanh));
  const auto gated = [](int16x8_t a, int16x8_t b) {
    return vmovn_s16(vqrdmulhq_s16(vqrdmulhq_s16(a, b), vdupq_n_s16(127)));
  };
  const int8x16_t bytes = vcombine_s8(gated(s.low, t.low), gated(s.high, t.high));
  vst1q_u8(p, vreinterpretq_u8_s8(veorq_s8(bytes, vdupq_n_s8(-128))));
}
