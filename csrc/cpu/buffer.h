// Memory straight from the system: page-aligned, zero, in huge pages where the system gives them.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <mutex>
#include <new>
#include <utility>
#include <vector>

namespace diffwave {

class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(size_t bytes) : bytes_(bytes) {
    if (bytes == 0) return;
    data_ = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data_ == MAP_FAILED) throw std::bad_alloc();
#ifdef MADV_HUGEPAGE
    madvise(data_, bytes, MADV_HUGEPAGE);
#endif
  }
  Buffer(Buffer&& other) noexcept { *this = std::move(other); }
  Buffer& operator=(Buffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~Buffer() {
    if (data_) munmap(data_, bytes_);
  }

  char* data() const { return static_cast<char*>(data_); }
  size_t bytes() const { return bytes_; }

 private:
  void* data_ = nullptr;
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
  static constexpr size_t kMost = size_t{384} << 20;
  std::mutex mutex_;
  std::vector<Buffer> buffers_;
};

// Hands out aligned pieces of one buffer. The first pass (no buffer yet) only adds up their sizes.
class Arena {
 public:
  explicit Arena(char* base = nullptr) : base_(base) {}

  template <class T>
  T* take(size_t count) {
    const size_t at = used_;
    used_ += (count * sizeof(T) + kAlignment - 1) / kAlignment * kAlignment;
    return base_ ? reinterpret_cast<T*>(base_ + at) : nullptr;
  }
  size_t used() const { return used_; }

 private:
  static constexpr size_t kAlignment = 128;
  char* base_;
  size_t used_ = 0;
};

}  // namespace diffwave
