// Winograd's F(2,3) (Lavin and Gray, "Fast algorithms for convolutional neural networks", CVPR 2016) along the three
// taps of a dilated convolution: two outputs d apart take four products with the weights instead of six.
//
// Time is cut into stretches of 2d from zero on; a pair is a row of a stretch's first half and the row d after it. As
// this does not depend on the tile, neither does any sum: of a pair that a tile holds only one row of, that row is
// computed with the same sums, by three products.
#pragma once

#include <algorithm>

namespace diffwave {

// Pair n is the rows at first_of_pair(n, d) and d after it.
inline long first_of_pair(long pair, long d) { return pair / d * 2 * d + pair % d; }

struct Pairs {
  long begin, end;
};

// The rows [from, to), 0 <= from, as pairs.
struct PairedTile {
  long from, to, d;

  Pairs pairs() const {
    if (from >= to) return {0, 0};
    const long last = to - 1;
    return {from / (2 * d) * d + std::max(from % (2 * d) - d, 0L),
            last / (2 * d) * d + std::min(last % (2 * d), d - 1) + 1};
  }

  // One of `size` parts that have about as much to do, in whole register tiles.
  Pairs share(int rank, int size) const {
    const Pairs all = pairs();
    const double part = static_cast<double>(products(all.end)) / size;
    return {rank == 0 ? all.begin : bound(all, part * rank),
            rank + 1 == size ? all.end : bound(all, part * (rank + 1))};
  }

 private:
  static constexpr long kTile = 12;

  // Rows before t that come first in their pair.
  long firsts(long t) const { return t / (2 * d) * d + std::min(t % (2 * d), d); }

  // What pairs before this one take: for both rows six, for one of them four, the projection's included.
  long products(long pair) const {
    const auto firsts_before = [&](long t) { return firsts(std::max(t, from)) - firsts(from); };
    const auto rows_before = [&](long t) { return std::max(t, from) - from; };
    const long t = first_of_pair(pair, d), first = std::min(t, to), second = std::min(t + d, to);
    const long rows = firsts_before(first) + rows_before(second) - firsts_before(second);
    return 4 * rows - 2 * firsts_before(std::min(t, to - d));
  }

  // Where so much has been done, in whole register tiles from the first pair on.
  long bound(Pairs all, double wanted) const {
    long low = 0, high = (all.end - all.begin + kTile - 1) / kTile;
    while (low < high) {
      const long middle = (low + high) / 2;
      if (static_cast<double>(products(std::min(all.begin + middle * kTile + kTile / 2, all.end))) < wanted)
        low = middle + 1;
      else
        high = middle;
    }
    return std::min(all.begin + low * kTile, all.end);
  }
};

}  // namespace diffwave
