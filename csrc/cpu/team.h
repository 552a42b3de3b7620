// A team of threads that run one function together, repeatedly, with barriers inside.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace diffwave {

class Team {
 public:
  explicit Team(int size);
  ~Team();
  Team(const Team&) = delete;

  int size() const { return size_; }

  // Runs work(rank) for rank 0 .. size-1, rank 0 on the calling thread. Returns when all have finished. An exception in
  // one of them is rethrown here, after the others have left at a barrier or finished. Calls must not overlap. After a
  // fork, the child's first call starts new threads.
  void run(const std::function<void(int)>& work);

  // To be called by work on all threads: returns once every thread has arrived.
  void barrier();

 private:
  // Threads that sleep until a condition holds.
  struct Sleepers {
    std::atomic<int> asleep{0};
    std::condition_variable wake;
  };

  // What the threads share.
  struct State {
    explicit State(int spins) : spins(spins) {}

    const std::function<void(int)>* work = nullptr;
    std::atomic<int64_t> round{0};
    std::atomic<int> arrived{0};
    std::atomic<int64_t> passed{0};
    std::atomic<int> finished{0};
    std::atomic<bool> failed{false};
    std::atomic<int> spins;  // at barriers, before a thread sleeps
    std::exception_ptr failure;
    bool stop = false;
    std::mutex mutex;
    Sleepers between_rounds, in_round;
    std::vector<std::thread> threads;
  };

  void start();
  void stop_threads();
  void abandon_state_of_parent();
  void run_thread(State& state, int rank);
  void run_work(int rank);
  static void begin_round(State& state);
  static void wake(State& state, Sleepers& sleepers);
  template <class Condition>
  static bool wait_until(State& state, Sleepers& sleepers, int spins, const Condition& condition);
  template <class Condition>
  void wait_in_round(State& state, const Condition& condition) const;

  const int size_, spins_;
  int64_t process_ = 0;  // the process that started the threads; 0 if starting them failed
  std::unique_ptr<State> state_;
};

}  // namespace diffwave
