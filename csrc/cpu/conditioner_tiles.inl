// The local conditioner of project_conditioner.inl on tile registers (matmul_tiles.inl). The bands are padded with
// zeros to whole tiles: Network::conditioner_inputs.
template <class E>
int tile_inputs(int bands) {
  return (bands + kTileInputs<E> - 1) / kTileInputs<E> * kTileInputs<E>;
}

template <class E>
struct ConditionerBf16 {
  using Sum = float;
  using Op = ProjectConditioner<E>;
  using Row = E;

  static const E* weights(const Op& op) { return op.weight; }

  // Finishes one panel of the register tile at t.
  static void finish_panel(const Op& op, int panel, int64_t t, const float (&sums)[kRows][2][kWidth]) {
    const int64_t first = panel * int64_t{2} * kWidth, width = op.conditioner.width;
    const Vec bias0 = load(op.bias + first), bias1 = load(op.bias + first + kWidth);
    E* row = op.conditioner.at(t) + first;
    for (int r = 0; r < kRows; ++r) {
      store(row + r * width, load(sums[r][0]) + bias0);
      store(row + r * width + kWidth, load(sums[r][1]) + bias1);
    }
  }
};

template <class E>
struct ConditionerInt8 {
  using Sum = int32_t;
  using Op = QuantizedConditioner<E>;
  using Row = uint8_t;

  static const int8_t* weights(const Op& op) { return op.weight; }

  static void finish_panel(const Op& op, int panel, int64_t t, const int32_t (&sums)[kRows][2][kWidth]) {
    const int64_t first = panel * int64_t{2} * kWidth, width = int64_t{2} * op.channels;
    const VecInt start0 = load(op.start + first), start1 = load(op.start + first + kWidth);
    VecInt acc[kRows][2];
    for (int r = 0; r < kRows; ++r) {
      acc[r][0] = sum(load(sums[r][0]), start0);
      acc[r][1] = sum(load(sums[r][1]), start1);
    }
    if (op.conditioner8.rows)
      store_panel(op.conditioner8.at(t) + first, width, acc, op.scale + first, op.bias + first);
    else
      store_panel(op.conditioner.at(t) + first, width, acc, op.scale + first, op.bias + first);
  }
};

template <class Layer>
void conditioner_on_tiles(const typename Layer::Op& op, Rows rows) {
  using Row = typename Layer::Row;
  const int panels = op.channels / kWidth, inputs = tile_inputs<Row>(op.bands);
  configure_tiles(kRows);
  for (int64_t begin = rows.begin; begin < rows.end; begin += kBlockRows) {
    int64_t time[kBlockRows / kRows];
    int count = 0;
    for (int64_t t = begin; t < std::min(begin + kBlockRows, rows.end); t += kRows)
      if (!outside(t, rows.length)) time[count++] = t;
    for (int panel = 0; panel < panels; ++panel) {
      const auto* weight = Layer::weights(op) + panel * int64_t{2} * kWidth * inputs;
      const auto row = [&](int i) { return static_cast<const Row*>(op.mel.at(time[i])); };
      in_pairs<typename Layer::Sum>(
          count, [&](int a, int b, auto& sums) { multiply(row(a), row(b), op.mel.width, weight, inputs, sums); },
          [&](int i, const auto& sums) { Layer::finish_panel(op, panel, time[i], sums); });
    }
    for (int i = 0; i < count; ++i) mirror(op, time[i]);
  }
  release_tiles();
}
