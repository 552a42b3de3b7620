// The local conditioner of one layer (paper, section 3.2): a 1x1 convolution from mel bands to 2C channels, with the
// bias of the dilated convolution added. It does not depend on the diffusion step, so it runs once per sweep.
template <class E>
void project_conditioner(const ProjectConditioner<E>& op, Rows rows) {
  const int panels = op.channels / kWidth;
  const int inputs = (op.bands + kGroup<E> - 1) / kGroup<E> * kGroup<E>;
  for (long begin = rows.begin; begin < rows.end; begin += kBlockRows) {
    const long end = std::min(begin + kBlockRows, rows.end);
    for (int panel = 0; panel < panels; ++panel) {
      const Vec bias0 = load(op.bias + panel * 2 * kWidth), bias1 = load(op.bias + (panel * 2 + 1) * kWidth);
      const E* weight = op.weight + static_cast<long>(panel) * 2 * kWidth * inputs;
      for (long t = begin; t < end; t += kRows) {
        if (outside(t, rows.length)) continue;
        Vec acc[kRows][2];
#pragma GCC unroll 12
        for (int r = 0; r < kRows; ++r) {
          acc[r][0] = bias0;
          acc[r][1] = bias1;
        }
        E* row = op.conditioner.at(t) + panel * 2 * kWidth;
#pragma GCC unroll 12
        for (int r = 0; r < kRows; ++r)
          for (int c = 0; c < 2 * kWidth; c += kLine<E>) __builtin_prefetch(row + r * op.conditioner.width + c, 1);
        accumulate<2, 0>(acc, op.mel.at(t), op.mel.width, weight, inputs);
#pragma GCC unroll 12
        for (int r = 0; r < kRows; ++r) {
          store(row + r * op.conditioner.width, acc[r][0]);
          store(row + r * op.conditioner.width + kWidth, acc[r][1]);
        }
      }
    }
    for (long t = begin; t < end; t += kRows)
      if (!outside(t, rows.length)) op.conditioner.mirror(t, kRows);
  }
}
