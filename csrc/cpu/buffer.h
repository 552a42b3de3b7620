// Memory from the system (page-aligned, zeroed, in huge pages where available), a pool of it, and its division into
// aligned pieces.
#pragma once

#include <cstddef>
#include <cstring>
#include <mutex>
#include <utility>
#include <vector>

#include "system.h"

namespace diffwave {

constexpr size_t kAlignment = 128;

inline size_t aligned(size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

// A piece of `bytes` occupies slot_size(bytes) bytes of a buffer, at place(slot, bytes). If DIFFWAVE_FENCE is defined
// (in tests), a protected page follows each piece, so that an overrun crashes immediately.
#ifdef DIFFWAVE_FENCE
constexpr bool kFence = true;
inline size_t page() { return system::page_size(); }
inline size_t slot_size(size_t bytes) { return (aligned(bytes) + page() - 1) / page() * page() + page(); }
inline char* place(char* slot, size_t bytes) {
  char* const end = slot + slot_size(bytes) - page();
  system::protect_page(end);
  return end - aligned(bytes);
}
#else
constexpr bool kFence = false;
inline size_t slot_size(size_t bytes) { return aligned(bytes); }
inline char* place(char* slot, size_t) { return slot; }
#endif

class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(size_t bytes) : bytes_(bytes) {
    if (bytes == 0) return;
    space_ = system::map_pages(slot_size(bytes));
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
    if (space_) system::unmap_pages(space_, slot_size(bytes_));
  }

  char* data() const { return data_; }
  size_t bytes() const { return bytes_; }

 private:
  void* space_ = nullptr;
  char* data_ = nullptr;
  size_t bytes_ = 0;
};

// Keeps at most kMaxBytes of buffers for reuse: clearing a new buffer takes the system as long as computing a short
// utterance. The contents of a reused buffer are arbitrary. No call waits for the lock, which may be held forever in a
// process forked at that moment: a call that finds it taken bypasses the pool.
class BufferPool {
 public:
  Buffer take(size_t bytes) {
    std::vector<Buffer> too_small;  // freed after the lock
    {
      std::unique_lock<std::mutex> lock(mutex_, std::try_to_lock);
      if (lock) {
        for (Buffer& buffer : buffers_)
          if (buffer.bytes() >= bytes) {
            std::swap(buffer, buffers_.back());
            Buffer result = std::move(buffers_.back());
            buffers_.pop_back();
            return result;
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
    size_t total = buffer.bytes();
    for (const Buffer& other : buffers_) total += other.bytes();
    if (total <= kMaxBytes) buffers_.push_back(std::move(buffer));
  }

 private:
  static constexpr size_t kMaxBytes = kFence ? 0 : size_t{384} << 20;  // fences cannot move, so they exclude reuse
  std::mutex mutex_;
  std::vector<Buffer> buffers_;
};

// Divides one buffer into aligned pieces. Without a buffer (the first of two passes), it only sums up the sizes.
class Arena {
 public:
  explicit Arena(char* base = nullptr) : base_(base) {}

  template <class T>
  T* take(size_t count) {
    const size_t bytes = count * sizeof(T), offset = used_;
    used_ += slot_size(bytes);
    if (!base_) return nullptr;
    char* const piece = place(base_ + offset, bytes);
    if (kFence) std::memset(piece, 0xff, aligned(bytes));  // NaN: kernels must not read memory before writing it
    return reinterpret_cast<T*>(piece);
  }
  size_t used() const { return used_; }

 private:
  char* base_;
  size_t used_ = 0;
};

}  // namespace diffwave
