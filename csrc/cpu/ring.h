// A ring buffer of rows of channels, addressed by absolute time in samples. It holds the newest `capacity` rows.
#pragma once

#include <algorithm>
#include <cstring>

namespace diffwave {

// Mirrored rows: at least the rows of the largest register tile.
constexpr int64_t kGuard = 16;

// A register tile reads or writes up to kGuard consecutive rows through one pointer. The first kGuard rows are
// duplicated after the last row so that this access never wraps. After writing rows, call mirror() to update the
// duplicates.
template <class T>
struct Ring {
  T* rows = nullptr;
  int64_t capacity = 0;
  int64_t width = 0;

  int64_t index(int64_t t) const { return static_cast<int64_t>(static_cast<uint64_t>(t + capacity) % capacity); }

  // Row t, t >= -capacity.
  T* at(int64_t t) const { return rows + index(t) * width; }

  // Copies rows t .. t + count - 1 between the front and its duplicate, as far as they lie in either.
  void mirror(int64_t t, int64_t count) const {
    const int64_t first = index(t), last = first + count;
    if (first < kGuard) copy(first + capacity, first, std::min(last, kGuard) - first);
    if (last > capacity) {
      const int64_t from = std::max(first, capacity);
      copy(from - capacity, from, last - from);
    }
  }

  static int64_t elements(int64_t capacity, int64_t width) { return (capacity + kGuard) * width; }

 private:
  void copy(int64_t to, int64_t from, int64_t count) const {
    std::memcpy(rows + to * width, rows + from * width, static_cast<size_t>(count * width) * sizeof(T));
  }
};

}  // namespace diffwave
