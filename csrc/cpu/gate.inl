// sigmoid(g) * tanh(f) = (1 - e^-2f) / ((1 + e^-2f) (1 + e^-g)): two exponentials and one quotient.
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
