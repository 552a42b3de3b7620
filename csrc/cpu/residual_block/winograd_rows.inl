// The rows and the scratch memory of a block of Winograd pairs (winograd_pairs.h). A block has at most kBlockPairs
// pairs.
static_assert(kBlockPairs % kRows == 0);

// The operands of one pair: half 0 is the row at t, half 1 the row at t + d. All rows are [C], conditioner rows [2C].
// Where only one row is needed (the other is outside the tile), the other reads rows that exist and writes to scratch.
template <class Conditioner>
struct WinogradPair {
  const float* x[4];  // at t - d, t, t + d, t + 2d
  const Conditioner* conditioner[2];
  float* y[2];
  float* skip[2];
  int64_t time[2];
  bool needed[2];
};

// Scratch of a block. M: transformed inputs, S: sums of products, G: gated rows.
template <class M, class S, class G>
struct WinogradScratch {
  S* shared[2];         // [kBlockPairs][2 kWidth]: m2 + m3 and m2 - m3 of a panel
  float* discarded;     // [2][C]: y and skip of rows that are not needed
  uint8_t* discarded8;  // [C]: y8 of rows that are not needed
  M* transformed[4];    // [kBlockPairs][C] each: the inputs of m1 to m4
  G* gated[2];          // [kBlockPairs][C]

  WinogradScratch(float* memory, int64_t channels) {
    const int64_t rows = kBlockPairs * channels;
    for (int half = 0; half < 2; ++half) shared[half] = reinterpret_cast<S*>(memory) + half * kBlockPairs * 2 * kWidth;
    discarded = memory + 2 * kBlockPairs * 2 * kWidth;
    discarded8 = reinterpret_cast<uint8_t*>(discarded + 2 * channels);
    float* const rest = discarded + 3 * channels;
    for (int i = 0; i < 4; ++i) transformed[i] = reinterpret_cast<M*>(rest) + i * rows;
    for (int half = 0; half < 2; ++half) gated[half] = reinterpret_cast<G*>(rest + 4 * rows) + half * rows;
  }
};

// acc += weights * transformed input of product 0 to 3 (m1 to m4), for a panel and the register tile of pairs that
// starts at pair `first` of the block.
template <int C, class Sum, class M>
DIFFWAVE_INLINE void add_product(Sum (&acc)[kRows][2], const M* weights, M* const (&transformed)[4], int channels,
                                 int64_t first, int panel, int product) {
  const M* const rows = transformed[product] + first * channels;
  accumulate<2, C>(acc, rows, channels, weights + (panel * int64_t{4} + product) * 2 * kWidth * channels, channels);
  if constexpr (sizeof(M) == 2) keep_in_registers(acc);
}

// A position in a ring, from which later rows are found without a division.
template <class T>
struct Cursor {
  const Ring<T>& ring;
  int64_t index;

  Cursor(const Ring<T>& ring, int64_t t) : ring(ring), index(ring.index(t)) {}
  int64_t after(int64_t rows) const {
    const int64_t i = index + rows;
    return i < ring.capacity ? i : i < 2 * ring.capacity ? i - ring.capacity : i % ring.capacity;
  }
  T* at(int64_t rows) const { return ring.rows + after(rows) * ring.width; }
};

// Ring::mirror for one row.
template <class T>
DIFFWAVE_INLINE void mirror_row(const Ring<T>& ring, T* row) {
  if (row < ring.rows + kGuard * ring.width)
    __builtin_memcpy(row + ring.capacity * ring.width, row, static_cast<size_t>(ring.width) * sizeof(T));
}

// Fills `block` with the next pairs that have a row in [from, to), at most kBlockPairs, and removes them from `range`.
// Repeats the last pair up to a whole register tile. Returns the number of entries.
template <class Conditioner>
int locate_pairs(const ResidualBlock<float>& op, const Ring<Conditioner>& conditioners, int64_t from, int64_t to,
                 PairRange& range, float* discarded, WinogradPair<Conditioner>* block) {
  const int64_t d = op.dilation;
  int64_t t = first_row_of_pair(range.begin, d);
  Cursor<float> x(op.x, t - d), y(op.y, t), skip(op.skip, t);
  Cursor<Conditioner> conditioner(conditioners, t);
  int64_t left = d - range.begin % d;  // pairs left in this stretch of 2d rows
  int count = 0;
  for (; range.begin < range.end && count < kBlockPairs; ++range.begin) {
    WinogradPair<Conditioner>& pair = block[count];
    for (int64_t half = 0; half < 2; ++half) {
      pair.time[half] = t + half * d;
      pair.needed[half] = pair.time[half] >= from && pair.time[half] < to;
    }
    if (pair.needed[0] || pair.needed[1]) {
      for (int64_t tap = 0; tap < 4; ++tap) pair.x[tap] = x.at(tap * d);
      for (int64_t half = 0; half < 2; ++half) {
        pair.conditioner[half] = conditioner.at(pair.needed[half] ? half * d : d - half * d);
        pair.y[half] = pair.needed[half] ? y.at(half * d) : discarded;
        pair.skip[half] = pair.needed[half] ? skip.at(half * d) : discarded + op.channels;
      }
      if (!pair.needed[0]) pair.x[0] = pair.x[1];
      if (!pair.needed[1]) pair.x[3] = pair.x[2];
      ++count;
    }
    const int64_t step = --left ? 1 : d + 1;
    if (!left) left = d;
    t += step;
    x.index = x.after(step);
    conditioner.index = conditioner.after(step);
    y.index = y.after(step);
    skip.index = skip.after(step);
  }
  for (; count % kRows; ++count) block[count] = block[count - 1];
  return count;
}

// Prefetches a panel's part of the conditioner rows of a register tile. They come from main memory.
template <class Conditioner>
DIFFWAVE_INLINE void prefetch_conditioner(const WinogradPair<Conditioner>* tile, int panel) {
  const int64_t first = panel * int64_t{2} * kWidth;
  if (first % kCacheLine<Conditioner> != 0) return;
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r)
    for (int half = 0; half < 2; ++half)
      for (int64_t c = 0; c < 2 * kWidth; c += kCacheLine<Conditioner>)
        __builtin_prefetch(tile[r].conditioner[half] + first + c, 0, 1);
}

// Prefetches a panel's part of the rows of y and skip that the projection will write.
template <class Conditioner>
DIFFWAVE_INLINE void prefetch_targets(const WinogradPair<Conditioner>* tile, int panel, int half) {
  const int64_t c = panel * kWidth;
  if (c % kCacheLine<float> != 0) return;
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r) {
    __builtin_prefetch(tile[r].y[half] + c, 1);
    __builtin_prefetch(tile[r].skip[half] + c, 1);
  }
}

// Whether any row of the register tile is needed in this half.
template <class Conditioner>
bool any_needed(const WinogradPair<Conditioner>* tile, int half) {
  bool any = false;
  for (int r = 0; r < kRows; ++r) any |= tile[r].needed[half];
  return any;
}

// After a row of y is written: updates its copies, the mirrored row of the ring and the reflected padding.
template <class T>
DIFFWAVE_INLINE void finish_row(const Ring<T>& ring, T* row, int64_t t, int64_t length, const Edges<T>& edges) {
  mirror_row(ring, row);
  if (edges.reflect) reflect_row(ring, t, length, edges.reach);
}

// Writes zero padding (-d) after the end of the audio.
template <class T>
void pad_after(const Ring<T>& ring, Rows rows, const Edges<T>& edges) {
  if (edges.reflect) return;
  for (int64_t t = std::max(rows.begin, rows.length); t < std::min(rows.end, rows.length + edges.reach); ++t)
    put_row(ring, t, edges.row);
}
