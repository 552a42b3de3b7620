// The ends of the audio. A register tile that straddles one computes all its rows; only those inside are kept.
DIFFWAVE_INLINE bool outside(long t, long length) { return t + kRows <= 0 || t >= length; }
DIFFWAVE_INLINE bool straddles(long t, long length) { return t < 0 || t + kRows > length; }

template <class E>
DIFFWAVE_INLINE void put_row(const Ring<E>& ring, long t, const E* row) {
  __builtin_memcpy(ring.at(t), row, static_cast<size_t>(ring.width) * sizeof(E));
  ring.mirror(t, 1);
}

// Keeps those of kRows freshly computed rows that lie inside.
template <class E>
DIFFWAVE_INLINE void keep_inside(const Ring<E>& ring, long t, long length, const E* rows) {
  for (long row = std::max(t, 0L); row < std::min(t + kRows, length); ++row)
    put_row(ring, row, rows + (row - t) * ring.width);
}

// Where the register tile at t writes its rows: into the ring, or beside the gated rows of scratch [kScratchRows][C].
template <class E>
DIFFWAVE_INLINE E* target(const Ring<E>& ring, E* scratch, long t, long length) {
  return straddles(t, length) ? scratch + (kBlockRows + (t < 0 ? 0 : kGuard)) * ring.width : ring.at(t);
}

// Row t, which is there, on the other side of the audio's ends.
template <class E>
DIFFWAVE_INLINE void reflect_row(const Ring<E>& ring, long t, long length, long reach) {
  const long last = length - 1;
  if (t >= 1 && t <= reach) put_row(ring, -t, ring.at(t));
  if (t < last && t >= last - reach) put_row(ring, 2 * last - t, ring.at(t));
}

// After rows t .. t + kRows - 1 are there: gives the ring what follows from them outside the audio.
template <class E>
DIFFWAVE_INLINE void extend(const Ring<E>& ring, long t, long length, const Edges<E>& edges) {
  if (!edges.reflect) {
    for (long row = std::max(t, length); row < std::min(t + kRows, length + edges.reach); ++row)
      put_row(ring, row, edges.row);
    return;
  }
  if (t > edges.reach && t + kRows < length - edges.reach) return;
  for (long row = std::max(t, 0L); row < std::min(t + kRows, length); ++row)
    reflect_row(ring, row, length, edges.reach);
}

// The rows of the register tile at t, written to its target, reach the ring, and what follows from them.
template <class E>
DIFFWAVE_INLINE void finish(const Ring<E>& ring, const E* rows, long t, long length, const Edges<E>& edges) {
  if (straddles(t, length))
    keep_inside(ring, t, length, rows);
  else
    ring.mirror(t, kRows);
  extend(ring, t, length, edges);
}
