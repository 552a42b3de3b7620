#include "team.h"

#include <unistd.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace diffwave {
namespace {

void pause_briefly() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// A member spins this often for the next round (tens of microseconds, longer than Python needs between two calls)
// before it sleeps, and at a barrier before it offers its processor to others.
constexpr int kSpins = 4000;

}  // namespace

Team::Team(int size) : size_(size), process_(getpid()) { start(); }

void Team::start() {
  for (int rank = 1; rank < size_; ++rank) threads_.emplace_back([this, rank] { member(rank); });
}

Team::~Team() {
  if (process_ != getpid()) {  // a forked copy: the threads stayed in the parent
    for (std::thread& thread : threads_) thread.detach();
    return;
  }
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stop_ = true;
    round_.fetch_add(1, std::memory_order_release);
  }
  wake_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void Team::member(int rank) {
  long seen = 0;
  for (;;) {
    for (int spin = 0; spin < kSpins && round_.load(std::memory_order_acquire) == seen; ++spin) pause_briefly();
    if (round_.load(std::memory_order_acquire) == seen) {
      std::unique_lock<std::mutex> lock(mutex_);
      wake_.wait(lock, [&] { return round_.load(std::memory_order_acquire) != seen; });
    }
    ++seen;
    if (stop_) return;
    (*work_)(rank);
    barrier();
  }
}

void Team::run(const std::function<void(int)>& work) {
  if (process_ != getpid()) {
    for (std::thread& thread : threads_) thread.detach();
    threads_.clear();
    process_ = getpid();
    round_ = 0;
    arrived_ = 0;
    start();
  }
  if (size_ == 1) return work(0);
  {
    std::lock_guard<std::mutex> lock(mutex_);
    work_ = &work;
    round_.fetch_add(1, std::memory_order_release);
  }
  wake_.notify_all();
  work(0);
  barrier();
}

void Team::barrier() {
  if (size_ == 1) return;
  const long now = passed_.load(std::memory_order_acquire);
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) == size_ - 1) {
    arrived_.store(0, std::memory_order_relaxed);
    passed_.fetch_add(1, std::memory_order_release);
    return;
  }
  for (int spin = 0; passed_.load(std::memory_order_acquire) == now; ++spin) {
    if (spin < kSpins)
      pause_briefly();
    else
      std::this_thread::yield();
  }
}

}  // namespace diffwave
