// The local conditioner of one layer (paper, section 3.2): a 1x1 convolution from mel bands to 2C channels, with the
// bias of the dilated convolution added. It does not depend on the diffusion step, so it runs once per sweep. Rows of
// the output are [2C] in panel order: E, or int8 for a quantized layer.

// Prefetches a panel of the output rows of a register tile.
template <class T>
DIFFWAVE_INLINE void prefetch_panel_for_write(T* row, int64_t width) {
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r)
    for (int c = 0; c < 2 * kWidth; c += kCacheLine<T>) __builtin_prefetch(row + r * width + c, 1);
}

// Computes one panel of the register tile at t.
template <class E>
DIFFWAVE_INLINE void project_panel(const ProjectConditioner<E>& op, int panel, int64_t t) {
  const int64_t first = panel * int64_t{2} * kWidth, width = op.conditioner.width;
  const int64_t inputs = (op.bands + kGroup<E> - 1) / kGroup<E> * kGroup<E>;
  const Vec bias0 = load(op.bias + first), bias1 = load(op.bias + first + kWidth);
  Vec acc[kRows][2];
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r) {
    acc[r][0] = bias0;
    acc[r][1] = bias1;
  }
  E* row = op.conditioner.at(t) + first;
  prefetch_panel_for_write(row, width);
  accumulate<2, 0>(acc, op.mel.at(t), op.mel.width, op.weight + first * inputs, static_cast<int>(inputs));
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r) {
    store(row + r * width, acc[r][0]);
    store(row + r * width + kWidth, acc[r][1]);
  }
}

// Stores acc * scale + bias of one panel, [2 kWidth] each.
template <class T>
DIFFWAVE_INLINE void store_panel(T* row, int64_t width, const VecInt (&acc)[kRows][2], const float* scale,
                                 const float* bias) {
  const Vec scale0 = load(scale), scale1 = load(scale + kWidth), bias0 = load(bias), bias1 = load(bias + kWidth);
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r) {
    store(row + r * width, to_float(acc[r][0]) * scale0 + bias0);
    store(row + r * width + kWidth, to_float(acc[r][1]) * scale1 + bias1);
  }
}

template <class E>
DIFFWAVE_INLINE void project_panel(const QuantizedConditioner<E>& op, int panel, int64_t t) {
  const int64_t first = panel * int64_t{2} * kWidth, width = int64_t{2} * op.channels;
  const int64_t inputs = (op.bands + kGroup<uint8_t> - 1) / kGroup<uint8_t> * kGroup<uint8_t>;
  const VecInt start0 = load(op.start + first), start1 = load(op.start + first + kWidth);
  VecInt acc[kRows][2];
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r) {
    acc[r][0] = start0;
    acc[r][1] = start1;
  }
  if (op.conditioner8.rows) prefetch_panel_for_write(op.conditioner8.at(t) + first, width);
  const uint8_t* mel = op.mel.at(t);
  if constexpr (kInt16Products)
    accumulate_int16(acc, mel, op.mel.width, op.weight16 + first * inputs, static_cast<int>(inputs));
  else
    accumulate<2, 0>(acc, mel, op.mel.width, op.weight + first * inputs, static_cast<int>(inputs));
  keep_in_registers(acc);
  if (op.conditioner8.rows)
    store_panel(op.conditioner8.at(t) + first, width, acc, op.scale + first, op.bias + first);
  else
    store_panel(op.conditioner.at(t) + first, width, acc, op.scale + first, op.bias + first);
}

template <class E>
DIFFWAVE_INLINE void mirror(const ProjectConditioner<E>& op, int64_t t) {
  op.conditioner.mirror(t, kRows);
}

template <class E>
DIFFWAVE_INLINE void mirror(const QuantizedConditioner<E>& op, int64_t t) {
  if (op.conditioner8.rows)
    op.conditioner8.mirror(t, kRows);
  else
    op.conditioner.mirror(t, kRows);
}

template <class Conditioner>
void project_conditioner(const Conditioner& op, Rows rows) {
  const int panels = op.channels / kWidth;
  for (int64_t begin = rows.begin; begin < rows.end; begin += kBlockRows) {
    const int64_t end = std::min(begin + kBlockRows, rows.end);
    for (int panel = 0; panel < panels; ++panel)
      for (int64_t t = begin; t < end; t += kRows)
        if (!outside(t, rows.length)) project_panel(op, panel, t);
    for (int64_t t = begin; t < end; t += kRows)
      if (!outside(t, rows.length)) mirror(op, t);
  }
}
