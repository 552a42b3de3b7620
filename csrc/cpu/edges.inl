// The ends of the audio and the padding around it. A register tile that straddles an end computes all its rows; only
// the rows inside the audio are kept. t is the tile's first row.
DIFFWAVE_INLINE bool outside(int64_t t, int64_t length) { return t + kRows <= 0 || t >= length; }
DIFFWAVE_INLINE bool straddles(int64_t t, int64_t length) { return t < 0 || t + kRows > length; }

template <class E>
DIFFWAVE_INLINE void put_row(const Ring<E>& ring, int64_t t, const E* row) {
  __builtin_memcpy(ring.at(t), row, static_cast<size_t>(ring.width) * sizeof(E));
  ring.mirror(t, 1);
}

// Copies those of the tile's kRows computed rows that lie inside the audio to the ring.
template <class E>
DIFFWAVE_INLINE void keep_inside(const Ring<E>& ring, int64_t t, int64_t length, const E* rows) {
  for (int64_t row = std::max(t, int64_t{0}); row < std::min(t + kRows, length); ++row)
    put_row(ring, row, rows + (row - t) * ring.width);
}

// The output address of the register tile at t: in the ring, or, if the tile straddles an end, in scratch
// [kScratchRows][C] after the gated rows.
template <class E>
DIFFWAVE_INLINE E* target(const Ring<E>& ring, E* scratch, int64_t t, int64_t length) {
  return straddles(t, length) ? scratch + (kBlockRows + (t < 0 ? 0 : kGuard)) * ring.width : ring.at(t);
}

// Copies row t to its mirror images outside the audio, for a padding of `reach` rows.
template <class E>
DIFFWAVE_INLINE void reflect_row(const Ring<E>& ring, int64_t t, int64_t length, int64_t reach) {
  const int64_t last = length - 1;
  if (t >= 1 && t <= reach) put_row(ring, -t, ring.at(t));
  if (t < last && t >= last - reach) put_row(ring, 2 * last - t, ring.at(t));
}

// After rows t .. t + kRows - 1 are written: writes the padding that depends on them, or that lies among them.
template <class E>
DIFFWAVE_INLINE void extend(const Ring<E>& ring, int64_t t, int64_t length, const Edges<E>& edges) {
  if (!edges.reflect) {
    for (int64_t row = std::max(t, length); row < std::min(t + kRows, length + edges.reach); ++row)
      put_row(ring, row, edges.row);
    return;
  }
  if (t > edges.reach && t + kRows < length - edges.reach) return;
  for (int64_t row = std::max(t, int64_t{0}); row < std::min(t + kRows, length); ++row)
    reflect_row(ring, row, length, edges.reach);
}

// After the register tile at t is written to its target(): completes the ring, its mirrored rows and the padding.
template <class E>
DIFFWAVE_INLINE void finish(const Ring<E>& ring, const E* rows, int64_t t, int64_t length, const Edges<E>& edges) {
  if (straddles(t, length))
    keep_inside(ring, t, length, rows);
  else
    ring.mirror(t, kRows);
  extend(ring, t, length, edges);
}
