// relu(weight * x + bias): one sample becomes C channels (paper, figure 2a).
template <class E>
void input_projection(const InputProjection<E>& op, Rows rows) {
  const Vec zero = broadcast(0.0f);
  for (long t = rows.begin; t < rows.end; t += kRows) {
    if (!outside(t, rows.length)) {
      E* row = op.y.at(t);
      for (int r = 0; r < kRows; ++r, row += op.channels) {
        const bool inside = t + r >= 0 && t + r < rows.length;
        const Vec x = broadcast(inside ? op.x[t + r] : 0.0f);
        for (int c = 0; c < op.channels; c += kWidth)
          store(row + c, maximum(fma(load(op.weight + c), x, load(op.bias + c)), zero));
      }
      op.y.mirror(t, kRows);
    }
    pad(op.y, t, rows.length, op.padding);
  }
}
