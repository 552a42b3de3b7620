// The gate: sigmoid(g) * tanh(f) = (1 - e^-2f) / ((1 + e^-2f) (1 + e^-g)), two exponentials and one quotient.
// The packed weights are scaled so that the sums arrive as exponents of two: -g log2(e) and -2 f log2(e).
template <class E>
DIFFWAVE_INLINE Vec exp2(Vec x) {
  x = clamp_exponent(x);
  const Vec n = round_nearest(x);
  return scale(exp2_fraction(x - n, static_cast<const E*>(nullptr)), n);
}

template <class E>
DIFFWAVE_INLINE Vec gate(Vec sigmoid_exponent, Vec tanh_exponent) {
  const Vec one = broadcast(1.0f);
  const Vec s = exp2<E>(sigmoid_exponent), t = exp2<E>(tanh_exponent);
  return quotient(one - t, (one + t) * (one + s), static_cast<const E*>(nullptr));
}

// The int8 gate (gate_table.h): stores a panel of kGatedRows gated rows, `row` the first of them. Arguments are in
// 1/kGateParts. G = uint8_t interleaves the rows, four channels of each in turn; G = int16_t stores each row
// separately.
template <class G>
DIFFWAVE_INLINE void store_gated_rows(G* gated, int64_t channels, int panel, int row, const Vec* sigmoid,
                                      const Vec* tanh, const GateTable& table) {
  G* const rows = gated + row * channels;
  if constexpr (sizeof(G) == 1)
    store_gated(rows + panel * kWidth * kGatedRows, sigmoid, tanh, table);
  else
    store_gated_int16(rows + panel * kWidth, channels, sigmoid, tanh, table);
}

// Applies the int8 gate to the int32 sums of a register tile. scale [2 kWidth]: from a sum to the gate's arguments.
template <class G>
DIFFWAVE_INLINE void store_gated_panel(G* gated, int64_t channels, int panel, const VecInt (&sums)[kRows][2],
                                       const float* scale, const GateTable& table) {
  const Vec scale0 = load(scale), scale1 = load(scale + kWidth);
#pragma GCC unroll 12
  for (int r = 0; r < kRows; r += kGatedRows) {
    Vec sigmoid[kGatedRows], tanh[kGatedRows];
    for (int i = 0; i < kGatedRows; ++i) {
      sigmoid[i] = to_float(sums[r + i][0]) * scale0;
      tanh[i] = to_float(sums[r + i][1]) * scale1;
    }
    store_gated_rows(gated, channels, panel, r, sigmoid, tanh, table);
  }
}
