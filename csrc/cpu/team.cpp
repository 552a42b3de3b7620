#include "team.h"

#include <algorithm>
#include <utility>

#include "system.h"

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

// Checks of a waiting thread before it sleeps. They take tens of microseconds, longer than Python needs between two
// calls and than a thread is late at a barrier if every thread has a processor. A thread that is later waits for a
// processor itself: it gets one sooner if the others sleep. With fewer processors than threads, threads sleep at once.
constexpr int kSpins = 4000;
// At barriers, every sleep halves the number of checks down to this part of it, and every wait without sleep doubles
// it.
constexpr int kLeastPart = 16;

int spins_of(int size) {
  const unsigned processors = std::thread::hardware_concurrency();
  return processors && static_cast<unsigned>(size) > processors ? 0 : kSpins;
}

// Thrown at a barrier where another thread's work has failed.
struct Abandoned {};

}  // namespace

Team::Team(int size) : size_(size), spins_(spins_of(size)) { start(); }

void Team::start() {
  state_ = std::make_unique<State>(spins_);
  try {
    for (int rank = 1; rank < size_; ++rank)
      state_->threads.emplace_back([this, rank, state = state_.get()] { run_thread(*state, rank); });
  } catch (...) {  // the system cannot start more threads
    stop_threads();
    throw;
  }
  process_ = system::process_number();
}

void Team::stop_threads() {
  state_->stop = true;
  begin_round(*state_);
  for (std::thread& thread : state_->threads) thread.join();
}

// In a forked child the threads do not exist and a lock may be held forever, so their state is leaked.
void Team::abandon_state_of_parent() { (void)state_.release(); }

Team::~Team() {
  if (process_ == system::process_number())
    stop_threads();
  else
    abandon_state_of_parent();
}

void Team::run_thread(State& state, int rank) {
  for (int64_t seen = 0;;) {
    wait_until(state, state.between_rounds, spins_, [&] { return state.round != seen; });
    ++seen;
    if (state.stop) return;
    run_work(rank);
    ++state.finished;
    wake(state, state.in_round);
  }
}

// `failed` releases the threads that wait at a barrier for this one.
void Team::run_work(int rank) {
  State& state = *state_;
  try {
    (*state.work)(rank);
  } catch (...) {
    {
      std::lock_guard<std::mutex> lock(state.mutex);
      if (!state.failure) state.failure = std::current_exception();
    }
    state.failed = true;
    wake(state, state.in_round);
  }
}

// Returns whether the thread slept. The atomics of the condition and `asleep` are sequentially consistent: either this
// thread sees that the condition holds, or the thread that made it hold sees in `wake` that this one is asleep.
template <class Condition>
bool Team::wait_until(State& state, Sleepers& sleepers, int spins, const Condition& condition) {
  for (int spin = 0; spin < spins; ++spin) {
    if (condition()) return false;
    pause_briefly();
  }
  std::unique_lock<std::mutex> lock(state.mutex);
  ++sleepers.asleep;
  const bool sleeps = !condition();
  sleepers.wake.wait(lock, condition);
  --sleepers.asleep;
  return sleeps;
}

template <class Condition>
void Team::wait_in_round(State& state, const Condition& condition) const {
  const int spins = state.spins.load(std::memory_order_relaxed);
  const bool slept = wait_until(state, state.in_round, spins, condition);
  const int next = slept ? std::max(spins / 2, spins_ / kLeastPart) : std::min(2 * spins, spins_);
  if (next != spins) state.spins.store(next, std::memory_order_relaxed);
}

// To be called after a condition has changed. The lock keeps the notification from a thread that is about to sleep.
void Team::wake(State& state, Sleepers& sleepers) {
  if (!sleepers.asleep) return;
  {
    std::lock_guard<std::mutex> lock(state.mutex);
  }
  sleepers.wake.notify_all();
}

void Team::begin_round(State& state) {
  ++state.round;
  wake(state, state.between_rounds);
}

void Team::run(const std::function<void(int)>& work) {
  if (process_ != system::process_number()) {
    abandon_state_of_parent();
    start();
  }
  if (size_ == 1) return work(0);
  State& state = *state_;
  state.work = &work;
  begin_round(state);
  run_work(0);
  wait_in_round(state, [&] { return state.finished == size_ - 1; });
  state.finished = 0;
  if (!state.failure) return;
  state.arrived = 0;
  state.failed = false;
  std::rethrow_exception(std::exchange(state.failure, nullptr));
}

void Team::barrier() {
  if (size_ == 1) return;
  State& state = *state_;
  const int64_t now = state.passed;
  if (++state.arrived == size_) {
    state.arrived = 0;
    ++state.passed;
    wake(state, state.in_round);
    return;
  }
  wait_in_round(state, [&] { return state.passed != now || state.failed; });
  if (state.passed == now) throw Abandoned{};
}

}  // namespace diffwave
