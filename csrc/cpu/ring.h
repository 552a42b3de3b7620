// Rows of channels, addressed by their absolute time in samples, of which the newest `capacity` exist.
#pragma once

#include <algorithm>
#include <cstring>

namespace diffwave {

// At least the rows of the widest register tile.
constexpr long kGuard = 16;

// A register tile reads or writes up to kGuard consecutive rows through one pointer. So that this never wraps, the
// first kGuard rows exist twice: at the front and again after the last row. Whoever writes rows calls mirror().
template <class T>
struct Ring {
  T* rows = nullptr;
  long capacity = 0;
  long width = 0;

  long index(long t) const { return static_cast<long>(static_cast<unsigned long>(t + capacity) % capacity); }

  // t >= -capacity
  T* at(long t) const { return rows + index(t) * width; }

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
