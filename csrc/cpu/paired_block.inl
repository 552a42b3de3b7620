// One residual layer in fp32 (paper, section 3.1 and figure 2a), fused: dilated convolution by Winograd's F(2,3),
// conditioner, gate, projection to residual and skip. Of the inputs a = x(t - d), b = x(t), c = x(t + d), e = x(t +
// 2d):
//
//   m1 = w1 (a - c), m2 = w2 (b + c), m3 = w3 (c - b), m4 = w4 (e - b)
//   y(t) = (m2 + m3) + m1, y(t + d) = (m2 - m3) + m4
//
// with the weights of Network::pack. See pairs.h.
//
// A block of pairs passes through all panels of the convolution, then, with the gated rows still near, through all
// panels of the projection; a panel's weights of one product stay in the first-level cache over the block.
static_assert(kBlockPairs % kRows == 0);

// Where a pair finds its rows, the one at t and the one at t + d. One that is not wanted takes inputs that are at hand
// and leaves its outputs in scratch.
struct PairedRows {
  const float* x[4];
  const float* conditioner[2];
  float* y[2];
  float* skip[2];
  long time[2];
  bool wanted[2];
};

struct PairedScratch {
  float* mixed[4];   // [kBlockPairs][C] each: a - c, b + c, c - b, e - b
  float* gated[2];   // [kBlockPairs][C]
  float* unwanted;   // [2][C]: a row of y and one of skip
  float* shared[2];  // [kBlockPairs][2 kWidth]: m2 + m3 and m2 - m3 of a panel

  PairedScratch(float* memory, long channels) {
    const long rows = kBlockPairs * channels;
    for (int i = 0; i < 4; ++i) mixed[i] = memory + i * rows;
    for (int half = 0; half < 2; ++half) gated[half] = memory + (4 + half) * rows;
    unwanted = memory + 6 * rows;
    for (int half = 0; half < 2; ++half) shared[half] = unwanted + 2 * channels + half * kBlockPairs * 2 * kWidth;
  }
};

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
inline int locate(const ResidualBlock<float>& op, long from, long to, Pairs& pairs, const PairedScratch& scratch,
                  PairedRows* at) {
  const long d = op.dilation;
  long t = first_of_pair(pairs.begin, d);
  Cursor<float> x(op.x, t - d), conditioner(op.conditioner, t), y(op.y, t), skip(op.skip, t);
  long left = d - pairs.begin % d;  // in this stretch
  int count = 0;
  for (; pairs.begin < pairs.end && count < kBlockPairs; ++pairs.begin) {
    PairedRows& rows = at[count];
    for (long half = 0; half < 2; ++half) {
      rows.time[half] = t + half * d;
      rows.wanted[half] = rows.time[half] >= from && rows.time[half] < to;
    }
    if (rows.wanted[0] || rows.wanted[1]) {
      for (long tap = 0; tap < 4; ++tap) rows.x[tap] = x.at(tap * d);
      for (long half = 0; half < 2; ++half) {
        rows.conditioner[half] = conditioner.at(rows.wanted[half] ? half * d : d - half * d);
        rows.y[half] = rows.wanted[half] ? y.at(half * d) : scratch.unwanted;
        rows.skip[half] = rows.wanted[half] ? skip.at(half * d) : scratch.unwanted + op.channels;
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

DIFFWAVE_INLINE void mix(const PairedRows& at, const PairedScratch& scratch, long pair, long channels) {
  for (long k = 0; k < channels; k += kWidth) {
    const Vec a = load(at.x[0] + k), b = load(at.x[1] + k), c = load(at.x[2] + k), e = load(at.x[3] + k);
    const long i = pair * channels + k;
    store(scratch.mixed[0] + i, a - c);
    store(scratch.mixed[1] + i, b + c);
    store(scratch.mixed[2] + i, c - b);
    store(scratch.mixed[3] + i, e - b);
  }
}

// m1 to m4 are products 0 to 3. Here and below, of a register tile of pairs from `first` on.
template <int C>
DIFFWAVE_INLINE void add_product(Vec (&acc)[kRows][2], const ResidualBlock<float>& op, const PairedScratch& scratch,
                                 long first, int panel, int product) {
  const int channels = C ? C : op.channels;
  const float* weight = op.dilated + (panel * 4L + product) * 2 * kWidth * channels;
  accumulate<2, C>(acc, scratch.mixed[product] + first * channels, channels, weight, channels);
}

// m2 + m3 and m2 - m3
template <int C>
DIFFWAVE_INLINE void shared_products(const ResidualBlock<float>& op, const PairedScratch& scratch, long first,
                                     int panel) {
  float* const sum = scratch.shared[0] + first * 2 * kWidth;
  float* const difference = scratch.shared[1] + first * 2 * kWidth;
  Vec acc[kRows][2];
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r) acc[r][0] = acc[r][1] = broadcast(0.0f);
  add_product<C>(acc, op, scratch, first, panel, 1);
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 2
    for (int v = 0; v < 2; ++v) {
      store(sum + (r * 2 + v) * kWidth, acc[r][v]);
      acc[r][v] = broadcast(0.0f);
    }
  add_product<C>(acc, op, scratch, first, panel, 2);
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 2
    for (int v = 0; v < 2; ++v) {
      const long i = (r * 2 + v) * kWidth;
      const Vec m2 = load(sum + i);
      store(sum + i, m2 + acc[r][v]);
      store(difference + i, m2 - acc[r][v]);
    }
}

// Rows of the conditioner come from main memory: a panel's share of a register tile's, before it is wanted.
DIFFWAVE_INLINE void fetch_conditioner(const PairedRows* at, int panel) {
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r)
    for (int half = 0; half < 2; ++half)
      for (long c = 0; c < 2 * kWidth; c += kLine<float>)
        __builtin_prefetch(at[r].conditioner[half] + panel * 2L * kWidth + c, 0, 1);
}

// What the projection will update.
DIFFWAVE_INLINE void claim(const PairedRows* at, int panel, int half) {
  const long c = panel * kWidth;
  if (c % kLine<float> != 0) return;
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r) {
    __builtin_prefetch(at[r].y[half] + c, 1);
    __builtin_prefetch(at[r].skip[half] + c, 1);
  }
}

// From there to the gated rows of one half.
template <int C>
DIFFWAVE_INLINE void gated_half(const ResidualBlock<float>& op, const PairedScratch& scratch, const PairedRows* at,
                                long first, int panel, int half) {
  const int channels = C ? C : op.channels;
  const long c = panel * 2L * kWidth;
  const float* shared = scratch.shared[half] + first * 2 * kWidth;
  float* const gated = scratch.gated[half] + first * channels + panel * kWidth;
  const Vec bias0 = load(op.step_bias + c), bias1 = load(op.step_bias + c + kWidth);
  Vec acc[kRows][2];
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r) {
    const float* row = at[first + r].conditioner[half] + c;
    acc[r][0] = load(shared + r * 2 * kWidth) + (load(row) + bias0);
    acc[r][1] = load(shared + r * 2 * kWidth + kWidth) + (load(row + kWidth) + bias1);
  }
  add_product<C>(acc, op, scratch, first, panel, half == 0 ? 0 : 3);
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r) store(gated + r * channels, gate<float>(acc[r][0], acc[r][1]));
}

template <int C>
DIFFWAVE_INLINE void projected_half(const ResidualBlock<float>& op, const PairedScratch& scratch, const PairedRows* at,
                                    long first, int panel, int half) {
  const int channels = C ? C : op.channels, c = panel * kWidth;
  const float* weight = op.projection + static_cast<long>(panel) * 2 * kWidth * channels;
  const Vec root = broadcast(0.70710678f), bias = load(op.residual_bias + c);
  Vec acc[kRows][2];
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r) {
    acc[r][0] = fma(load(at[first + r].x[1 + half] + c), root, bias);
    acc[r][1] = load((op.skip_start ? op.skip_start : at[first + r].skip[half]) + c);
  }
  accumulate<2, C>(acc, scratch.gated[half] + first * channels, channels, weight, channels);
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r) {
    store(at[first + r].y[half] + c, acc[r][0]);
    store(at[first + r].skip[half] + c, acc[r][1]);
  }
}

// Whether a row of the register tile is wanted.
inline bool wants(const PairedRows* at, int half) {
  bool any = false;
  for (int r = 0; r < kRows; ++r) any |= at[r].wanted[half];
  return any;
}

template <int C>
void paired_block_of(const ResidualBlock<float>& op, Rows rows, Pairs pairs) {
  const long channels = C ? C : op.channels;
  const int panels = static_cast<int>(channels / kWidth);
  const long from = std::max(rows.begin, 0L), to = std::min(rows.end, rows.length);
  const PairedScratch scratch(op.scratch, channels);
  PairedRows at[kBlockPairs];
  while (pairs.begin < pairs.end) {
    const int count = locate(op, from, to, pairs, scratch, at);
    for (int i = 0; i < count; ++i) mix(at[i], scratch, i, channels);
    for (int panel = 0; panel < panels; ++panel) {
      for (int i = 0; i < count; i += kRows) {
        fetch_conditioner(at + i, panel);
        shared_products<C>(op, scratch, i, panel);
      }
      for (int half = 0; half < 2; ++half)
        for (int i = 0; i < count; i += kRows)
          if (wants(at + i, half)) {
            claim(at + i, panel, half);
            gated_half<C>(op, scratch, at, i, panel, half);
          }
    }
    for (int panel = 0; panel < panels; ++panel)
      for (int half = 0; half < 2; ++half)
        for (int i = 0; i < count; i += kRows)
          if (wants(at + i, half)) projected_half<C>(op, scratch, at, i, panel, half);
    for (int i = 0; i < count; ++i)
      for (int half = 0; half < 2; ++half) {
        if (!at[i].wanted[half]) continue;
        mirror_row(op.skip, at[i].skip[half]);
        mirror_row(op.y, at[i].y[half]);
        if (op.edges.reflect) reflect_row(op.y, at[i].time[half], rows.length, op.edges.reach);
      }
  }
  if (!op.edges.reflect)
    for (long t = std::max(rows.begin, rows.length); t < std::min(rows.end, rows.length + op.edges.reach); ++t)
      put_row(op.y, t, op.edges.row);
}

inline void paired_block(const ResidualBlock<float>& op, Rows rows, Pairs pairs) {
  switch (op.channels) {
    case 64:
      return paired_block_of<64>(op, rows, pairs);
    case 128:
      return paired_block_of<128>(op, rows, pairs);
    default:
      return paired_block_of<0>(op, rows, pairs);
  }
}
