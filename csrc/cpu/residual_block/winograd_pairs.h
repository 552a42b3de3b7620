// The pairs of rows of Winograd's F(2,3) and their division among threads. F(2,3) (Lavin and Gray, "Fast algorithms for
// convolutional neural networks", CVPR 2016) runs along the three taps of a dilated convolution: two outputs d apart
// take four products with the weights instead of six.
//
// Time is cut into stretches of 2d rows, starting at zero. A pair is a row t of a stretch's first half and the row t +
// d of its second half. Pairs do not depend on the tile, so neither does the order of any sum. Where a tile holds only
// one row of a pair, that row takes three products and the same sums.
#pragma once

#include <algorithm>

namespace diffwave {

// Pair n consists of rows t = first_row_of_pair(n, d) and t + d.
inline int64_t first_row_of_pair(int64_t pair, int64_t d) { return pair / d * 2 * d + pair % d; }

struct PairRange {
  int64_t begin, end;
};

// The rows [from, to), 0 <= from, of a layer with dilation d.
struct WinogradTile {
  int64_t from, to, d;

  // The pairs with at least one row in the tile.
  PairRange pairs() const {
    if (from >= to) return {0, 0};
    const int64_t last = to - 1;
    return {from / (2 * d) * d + std::max(from % (2 * d) - d, int64_t{0}),
            last / (2 * d) * d + std::min(last % (2 * d), d - 1) + 1};
  }

  // Part `rank` of `size` parts with nearly equal work. Boundaries lie at whole register tiles.
  PairRange share(int rank, int size) const {
    const PairRange all = pairs();
    const double part = static_cast<double>(products(all.end)) / size;
    return {rank == 0 ? all.begin : bound(all, part * rank),
            rank + 1 == size ? all.end : bound(all, part * (rank + 1))};
  }

 private:
  static constexpr int64_t kTile = 12;

  // Rows before t that are the first row of their pair.
  int64_t firsts(int64_t t) const { return t / (2 * d) * d + std::min(t % (2 * d), d); }

  // Matrix products of the pairs before this one, the projection included: six for two rows, four for one row.
  int64_t products(int64_t pair) const {
    const auto firsts_before = [&](int64_t t) { return firsts(std::max(t, from)) - firsts(from); };
    const auto rows_before = [&](int64_t t) { return std::max(t, from) - from; };
    const int64_t t = first_row_of_pair(pair, d), first = std::min(t, to), second = std::min(t + d, to);
    const int64_t rows = firsts_before(first) + rows_before(second) - firsts_before(second);
    return 4 * rows - 2 * firsts_before(std::min(t, to - d));
  }

  // The pair before which `target` products are done, rounded to whole register tiles from the first pair on.
  int64_t bound(PairRange all, double target) const {
    int64_t low = 0, high = (all.end - all.begin + kTile - 1) / kTile;
    while (low < high) {
      const int64_t middle = (low + high) / 2;
      if (static_cast<double>(products(std::min(all.begin + middle * kTile + kTile / 2, all.end))) < target)
        low = middle + 1;
      else
        high = middle;
    }
    return std::min(all.begin + low * kTile, all.end);
  }
};

}  // namespace diffwave
