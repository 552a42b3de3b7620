// Memory straight from the system: page-aligned, zero, in huge pages where the system gives them.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstring>
#include <mutex>
#include <new>
#include <utility>
#include <vector>

namespace diffwave {

constexpr size_t kAlignment = 128;

inline size_t aligned(size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

// Pieces of memory stand side by side, each in so many bytes: spaced(). Where DIFFWAVE_FENCE is defined, for tests,
// place() puts a piece before a page that nobody may touch, so that an overrun crashes at once.
#ifdef DIFFWAVE_FENCE
constexpr bool kFence = true;
inline size_t page() { return static_cast<size_t>(sysconf(_SC_PAGESIZE)); }
inline size_t spaced(size_t bytes) { return (aligned(bytes) + page() - 1) / page() * page() + page(); }
inline char* place(char* space, size_t bytes) {
  char* const end = space + spaced(bytes) - page();
  if (mprotect(end, page(), PROT_NONE) != 0) throw std::bad_alloc();
  return end - aligned(bytes);
}
#else
constexpr bool kFence = false;
inline size_t spaced(size_t bytes) { return aligned(bytes); }
inline char* place(char* space, size_t) { return space; }
#endif

class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(size_t bytes) : bytes_(bytes) {
    if (bytes == 0) return;
    space_ = mmap(nullptr, spaced(bytes), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (space_ == MAP_FAILED) throw std::bad_alloc();
#ifdef MADV_HUGEPAGE
    madvise(space_, bytes, MADV_HUGEPAGE);
#endif
    data_ = place(static_cast<char*>(space_), bytes);
  }
  Buffer(Buffer&& other) noexcept { *this = std::move(other); }
  Buffer& operator=(Buffer&& other) noexcept {
    std::swap(space_, other.space_);
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~Buffer() {
    if (space_) munmap(space_, spaced(bytes_));
  }

  char* data() const { return data_; }
  size_t bytes() const { return bytes_; }

 private:
  void* space_ = nullptr;
  char* data_ = nullptr;
  size_t bytes_ = 0;
};

// Buffers kept for reuse: the system takes as long to clear a new one as a short utterance takes to compute. What a
// reused buffer holds is arbitrary. At most kMost bytes are kept. Nobody waits for the lock: whoever finds it taken
// (for ever, in a process forked at that moment) goes without.
class Spare {
 public:
  Buffer take(size_t bytes) {
    std::vector<Buffer> too_small;  // freed after the lock
    {
      std::unique_lock<std::mutex> lock(mutex_, std::try_to_lock);
      if (lock) {
        for (Buffer& buffer : buffers_)
          if (buffer.bytes() >= bytes) {
            std::swap(buffer, buffers_.back());
            Buffer found = std::move(buffers_.back());
            buffers_.pop_back();
            return found;
          }
        too_small.swap(buffers_);
      }
    }
    too_small.clear();
    return Buffer(bytes);
  }

  void give(Buffer buffer) {
    std::unique_lock<std::mutex> lock(mutex_, std::try_to_lock);
    if (!lock) return;
    size_t kept = buffer.bytes();
    for (const Buffer& other : buffers_) kept += other.bytes();
    if (kept <= kMost) buffers_.push_back(std::move(buffer));
  }

 private:
  static constexpr size_t kMost = kFence ? 0 : size_t{384} << 20;  // fences stay where they are
  std::mutex mutex_;
  std::vector<Buffer> buffers_;
};

// Hands out aligned pieces of one buffer. The first pass (no buffer yet) only adds up their sizes.
class Arena {
 public:
  explicit Arena(char* base = nullptr) : base_(base) {}

  template <class T>
  T* take(size_t count) {
    const size_t bytes = count * sizeof(T), at = used_;
    used_ += spaced(bytes);
    if (!base_) return nullptr;
    char* const piece = place(base_ + at, bytes);
    if (kFence) std::memset(piece, 0xff, aligned(bytes));  // NaN: nothing may count on what is there
    return reinterpret_cast<T*>(piece);
  }
  size_t used() const { return used_; }

 private:
  char* base_;
  size_t used_ = 0;
};

}  // namespace diffwave
