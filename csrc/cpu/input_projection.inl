// The input projection (paper, figure 2a): y(t) = relu(weight * x(t) + bias), one sample to a row of C channels.
template <class E>
void input_projection(const InputProjection<E>& op, Rows rows) {
  const Vec zero = broadcast(0.0f);
  for (int64_t t = rows.begin; t < rows.end; t += kRows) {
    for (int64_t row = std::max(t, int64_t{0}); row < std::min(t + kRows, rows.length); ++row) {
      E* y = op.y.at(row);
      const Vec x = broadcast(*op.x.at(row));
      for (int c = 0; c < op.channels; c += kWidth)
        store(y + c, maximum(fma(load(op.weight + c), x, load(op.bias + c)), zero));
      op.y.mirror(row, 1);
    }
    extend(op.y, t, rows.length, op.edges);
  }
}
