// Where a block of pairs finds its rows, and the way it takes through a layer. See pairs.h.
static_assert(kBlockPairs % kRows == 0);

// Of a pair: the row at t and the one at t + d. One that is not wanted takes inputs that are at hand and leaves its
// outputs in scratch.
template <class K>
struct PairedRows {
  const float* x[4];  // at t - d, t, t + d, t + 2d
  const K* conditioner[2];
  float* y[2];
  float* skip[2];
  long time[2];
  bool wanted[2];
};

// Of a block: M is what is mixed, S the lanes of its sums, G what is gated.
template <class M, class S, class G>
struct PairedScratch {
  S* shared[2];        // [kBlockPairs][2 kWidth]: what both rows of a pair have of m2 and m3 in a panel
  float* unwanted;     // [2][C]: a row of y and one of skip
  uint8_t* unwanted8;  // [C]: a row of y8
  M* mixed[4];         // [kBlockPairs][C] each: the inputs of m1 to m4
  G* gated[2];         // [kBlockPairs][C]

  PairedScratch(float* memory, long channels) {
    const long rows = kBlockPairs * channels;
    for (int half = 0; half < 2; ++half) shared[half] = reinterpret_cast<S*>(memory) + half * kBlockPairs * 2 * kWidth;
    unwanted = memory + 2 * kBlockPairs * 2 * kWidth;
    unwanted8 = reinterpret_cast<uint8_t*>(unwanted + 2 * channels);
    float* const rest = unwanted + 3 * channels;
    for (int i = 0; i < 4; ++i) mixed[i] = reinterpret_cast<M*>(rest) + i * rows;
    for (int half = 0; half < 2; ++half) gated[half] = reinterpret_cast<G*>(rest + 4 * rows) + half * rows;
  }
};

// m1 to m4 are products 0 to 3. Of a register tile of pairs from `first` on, as all that follows.
template <int C, class Sum, class M>
DIFFWAVE_INLINE void add_product(Sum (&acc)[kRows][2], const M* weights, M* const (&mixed)[4], int channels, long first,
                                 int panel, int product) {
  const M* const rows = mixed[product] + first * channels;
  accumulate<2, C>(acc, rows, channels, weights + (panel * 4L + product) * 2 * kWidth * channels, channels);
  if constexpr (sizeof(M) == 2) keep_in_registers(acc);
}

// A row of a ring, from which others are found without a division.
template <class T>
struct Cursor {
  const Ring<T>& ring;
  long index;

  Cursor(const Ring<T>& of, long t) : ring(of), index(of.index(t)) {}
  long after(long rows) const {
    const long i = index + rows;
    return i < ring.capacity ? i : i < 2 * ring.capacity ? i - ring.capacity : i % ring.capacity;
  }
  T* at(long rows) const { return ring.rows + after(rows) * ring.width; }
};

template <class T>
DIFFWAVE_INLINE void mirror_row(const Ring<T>& ring, T* row) {
  if (row < ring.rows + kGuard * ring.width)
    __builtin_memcpy(row + ring.capacity * ring.width, row, static_cast<size_t>(ring.width) * sizeof(T));
}

// The next pairs of which a row is wanted, at most kBlockPairs, and the last one again up to a whole register tile.
template <class K>
int locate(const ResidualBlock<float>& op, const Ring<K>& conditioners, long from, long to, Pairs& pairs,
           float* unwanted, PairedRows<K>* at) {
  const long d = op.dilation;
  long t = first_of_pair(pairs.begin, d);
  Cursor<float> x(op.x, t - d), y(op.y, t), skip(op.skip, t);
  Cursor<K> conditioner(conditioners, t);
  long left = d - pairs.begin % d;  // in this stretch
  int count = 0;
  for (; pairs.begin < pairs.end && count < kBlockPairs; ++pairs.begin) {
    PairedRows<K>& rows = at[count];
    for (long half = 0; half < 2; ++half) {
      rows.time[half] = t + half * d;
      rows.wanted[half] = rows.time[half] >= from && rows.time[half] < to;
    }
    if (rows.wanted[0] || rows.wanted[1]) {
      for (long tap = 0; tap < 4; ++tap) rows.x[tap] = x.at(tap * d);
      for (long half = 0; half < 2; ++half) {
        rows.conditioner[half] = conditioner.at(rows.wanted[half] ? half * d : d - half * d);
        rows.y[half] = rows.wanted[half] ? y.at(half * d) : unwanted;
        rows.skip[half] = rows.wanted[half] ? skip.at(half * d) : unwanted + op.channels;
      }
      if (!rows.wanted[0]) rows.x[0] = rows.x[1];
      if (!rows.wanted[1]) rows.x[3] = rows.x[2];
      ++count;
    }
    const long step = --left ? 1 : d + 1;
    if (!left) left = d;
    t += step;
    x.index = x.after(step);
    conditioner.index = conditioner.after(step);
    y.index = y.after(step);
    skip.index = skip.after(step);
  }
  for (; count % kRows; ++count) at[count] = at[count - 1];
  return count;
}

// Rows of the conditioner come from main memory: a panel's share of a register tile's, before it is wanted.
template <class K>
DIFFWAVE_INLINE void fetch_conditioner(const PairedRows<K>* at, int panel) {
  const long first = panel * 2L * kWidth;
  if (first % kLine<K> != 0) return;
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r)
    for (int half = 0; half < 2; ++half)
      for (long c = 0; c < 2 * kWidth; c += kLine<K>) __builtin_prefetch(at[r].conditioner[half] + first + c, 0, 1);
}

// What the projection will update.
template <class K>
DIFFWAVE_INLINE void claim_targets(const PairedRows<K>* at, int panel, int half) {
  const long c = panel * kWidth;
  if (c % kLine<float> != 0) return;
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r) {
    __builtin_prefetch(at[r].y[half] + c, 1);
    __builtin_prefetch(at[r].skip[half] + c, 1);
  }
}

// Whether a row of the register tile is wanted.
template <class K>
bool wants(const PairedRows<K>* at, int half) {
  bool any = false;
  for (int r = 0; r < kRows; ++r) any |= at[r].wanted[half];
  return any;
}

// Rows that were written reach what follows from them: the ring's front, or the other side of the audio's ends.
template <class T>
DIFFWAVE_INLINE void finish_row(const Ring<T>& ring, T* row, long t, long length, const Edges<T>& edges) {
  mirror_row(ring, row);
  if (edges.reflect) reflect_row(ring, t, length, edges.reach);
}

template <class T>
void pad_after(const Ring<T>& ring, Rows rows, const Edges<T>& edges) {
  if (edges.reflect) return;
  for (long t = std::max(rows.begin, rows.length); t < std::min(rows.end, rows.length + edges.reach); ++t)
    put_row(ring, t, edges.row);
}
