// What bytes need beside their tier's Vec and VecInt.
// 2^f on [-1/2, 1/2] to 1e-4: minimax of degree 3
DIFFWAVE_INLINE Vec exp2_fraction(Vec f, const uint8_t*) {
  Vec p = fma(f, broadcast(0.055008955f), broadcast(0.24221097f));
  p = fma(p, f, broadcast(0.69328290f));
  return fma(p, f, broadcast(1.0f));
}
