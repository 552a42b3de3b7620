// The int8 gate (gate_table.h), one row and one value at a time.
constexpr int kGatedRows = 1;

DIFFWAVE_INLINE void store_gated(uint8_t* p, const Vec* sigmoid, const Vec* tanh, const GateTable& table) {
  float g[kWidth], twice_f[kWidth];
  store(g, *sigmoid);
  store(twice_f, *tanh);
  for (int i = 0; i < kWidth; ++i) p[i] = gated_uint8(g[i], twice_f[i], table);
}
