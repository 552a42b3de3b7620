#include "team.h"

#include <unistd.h>

#include <utility>

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
// before it sleeps, and at a barrier before it offers its processor to others. Where there are fewer processors than
// members, whoever waits keeps another from working, and offers its own at once.
constexpr int kSpins = 4000;

int spins_of(int size) {
  const unsigned processors = std::thread::hardware_concurrency();
  return processors && static_cast<unsigned>(size) > processors ? 0 : kSpins;
}

// Leaves work whose other part has failed.
struct Abandoned {};

}  // namespace

Team::Team(int size) : size_(size), spins_(spins_of(size)) { start(); }

void Team::start() {
  meeting_ = std::make_unique<Meeting>();
  try {
    for (int rank = 1; rank < size_; ++rank)
      meeting_->threads.emplace_back([this, rank, meeting = meeting_.get()] { member(*meeting, rank); });
  } catch (...) {  // the system has no more threads
    dismiss();
    throw;
  }
  process_ = getpid();
}

void Team::dismiss() {
  {
    std::lock_guard<std::mutex> lock(meeting_->mutex);
    meeting_->stop = true;
    meeting_->round.fetch_add(1, std::memory_order_release);
  }
  meeting_->wake.notify_all();
  for (std::thread& thread : meeting_->threads) thread.join();
}

// In a forked copy the threads are gone and a lock may be held for ever: what they shared is left as it is.
void Team::forget_parent() { (void)meeting_.release(); }

Team::~Team() {
  if (process_ == getpid())
    dismiss();
  else
    forget_parent();
}

void Team::member(Meeting& meeting, int rank) {
  for (long seen = 0;;) {
    const auto called = [&] { return meeting.round.load(std::memory_order_acquire) != seen; };
    for (int spin = 0; spin < spins_ && !called(); ++spin) pause_briefly();
    if (!called()) {
      std::unique_lock<std::mutex> lock(meeting.mutex);
      meeting.wake.wait(lock, called);
    }
    ++seen;
    if (meeting.stop) return;
    attempt(rank);
    meeting.finished.fetch_add(1, std::memory_order_release);
  }
}

// Those who wait at a barrier for a member that failed are told by `failed`.
void Team::attempt(int rank) {
  Meeting& meeting = *meeting_;
  try {
    (*meeting.work)(rank);
  } catch (...) {
    std::lock_guard<std::mutex> lock(meeting.mutex);
    if (!meeting.failure) meeting.failure = std::current_exception();
    meeting.failed.store(true, std::memory_order_release);
  }
}

template <class Condition>
void Team::wait_until(const Condition& holds) const {
  for (int spin = 0; !holds(); ++spin) {
    if (spin < spins_)
      pause_briefly();
    else
      std::this_thread::yield();
  }
}

void Team::run(const std::function<void(int)>& work) {
  if (process_ != getpid()) {
    forget_parent();
    start();
  }
  if (size_ == 1) return work(0);
  Meeting& meeting = *meeting_;
  {
    std::lock_guard<std::mutex> lock(meeting.mutex);
    meeting.work = &work;
    meeting.round.fetch_add(1, std::memory_order_release);
  }
  meeting.wake.notify_all();
  attempt(0);
  wait_until([&] { return meeting.finished.load(std::memory_order_acquire) == size_ - 1; });
  meeting.finished.store(0, std::memory_order_relaxed);
  if (!meeting.failure) return;
  meeting.arrived.store(0, std::memory_order_relaxed);
  meeting.failed.store(false, std::memory_order_relaxed);
  std::rethrow_exception(std::exchange(meeting.failure, nullptr));
}

void Team::barrier() {
  if (size_ == 1) return;
  Meeting& meeting = *meeting_;
  const long now = meeting.passed.load(std::memory_order_acquire);
  if (meeting.arrived.fetch_add(1, std::memory_order_acq_rel) == size_ - 1) {
    meeting.arrived.store(0, std::memory_order_relaxed);
    meeting.passed.fetch_add(1, std::memory_order_release);
    return;
  }
  wait_until([&] {
    if (meeting.passed.load(std::memory_order_acquire) != now) return true;
    if (meeting.failed.load(std::memory_order_acquire)) throw Abandoned{};
    return false;
  });
}

}  // namespace diffwave
