// The division of a tile's rows among the threads of a team.
#pragma once

#include <algorithm>

#include "kernels.h"
#include "residual_block/winograd_pairs.h"

namespace diffwave {

// The part that thread `rank` of `size` computes of a tile. Rows inside the audio are divided evenly; rows before it
// belong to the first thread, rows after it to the last.
struct Share {
  Rows tile;
  int rank, size;

  // The thread's rows, in units of kUnit unless it is alone.
  Rows rows() const {
    const int64_t first = tile.begin, count = tile.end - tile.begin, units = count / kUnit;
    const int64_t from = std::clamp(-first / kUnit, int64_t{0}, units);
    const int64_t to = std::clamp((tile.length - first + kUnit - 1) / kUnit, from, units);
    const auto bound = [&](int64_t part) { return first + (from + (to - from) * part / size) * kUnit; };
    return {rank == 0 ? first : bound(rank), rank + 1 == size ? first + count : bound(rank + 1), tile.length};
  }

  // The share of the same tile in a layer that is `delay` rows later.
  Share delayed(int64_t delay) const { return {{tile.begin - delay, tile.end - delay, tile.length}, rank, size}; }

  // For Winograd, a thread computes the rows of its pairs instead, out of all rows of the tile.
  PairRange pairs(int64_t dilation) const {
    return WinogradTile{std::max(tile.begin, int64_t{0}), std::min(tile.end, tile.length), dilation}.share(rank, size);
  }
  Rows rows_of_pairs() const {
    return {std::max(tile.begin, int64_t{0}), rank + 1 == size ? tile.end : std::min(tile.end, tile.length),
            tile.length};
  }
};

}  // namespace diffwave
