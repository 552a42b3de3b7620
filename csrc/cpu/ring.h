// A ring buffer of rows of channels, addressed by absolute time in samples. It holds the newest `capacity` rows.
#pragma once

#include <algorithm>
#include <cstring>

namespace diffwave {

// Mirrored rows: at least the rows of the largest register tile.
constexpr long kGuard = 16;

// A register tile reads or writes up to kGuard consecutive rows through one pointer. The first kGuard rows are
// duplicated after the last row so that this access never wraps. After writing rows, call mirror() to update the
// duplicates.
template <class T>
struct Ring {
  T* rows = nullptr;
  long capacity = 0;
  long width = 0;

  long index(long t) const { return static_cast<long>(static_cast<unsigned long>(t + capacity) % capacity); }

  // Row t, t >= -capacity.
  T* at(long t) const { return rows + index(t) * width; }

  // Copies rows t .. t + count - 1 between the front and its duplicate, as far as they lie in either.
  // Copies rows t .. t + count - 1 between the front and its duplicate, as far as they lie in either.
  void mirror(long t, long count) const {
    const long first = index(t), last = first + count;
    if (first < kGuard) copy(first + capacity, first, std::min(last, kGuard) - first);
    if (last > capacity) {
      const long from = std::max(first, capacity);
      copy(from - capacity, from, last - from);
    }
  }

  static long elements(long capacity, long width) { return (capacity + kGuard) * width; }

 private:
  void copy(long to, long from, long count) const {
    std::memcpy(rows + to * width, rows + from * width, static_cast<size_t>(count * width) * sizeof(T));
  }
};

}  // namespace diffwave
