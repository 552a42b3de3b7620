// A few threads that run the same function together, as often as asked, with barriers inside.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <condition_variable>
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

  // Runs work(rank) for rank 0 .. size-1, rank 0 on the calling thread, and returns when all have finished. What one of
  // them throws is thrown here: then the others have left at a barrier, or finished. One call at a time. After a fork
  // the child's first call starts threads of its own.
  void run(const std::function<void(int)>& work);

  // For use inside work: nobody passes before all have arrived.
  void barrier();

 private:
  struct Meeting {
    const std::function<void(int)>* work = nullptr;
    std::atomic<long> round{0};
    std::atomic<int> arrived{0};
    std::atomic<long> passed{0};
    std::atomic<int> finished{0};
    std::atomic<bool> failed{false};
    std::exception_ptr failure;
    bool stop = false;
    std::mutex mutex;
    std::condition_variable wake;
    std::vector<std::thread> threads;
  };

  void start();
  void dismiss();
  void forget_parent();
  void member(Meeting& meeting, int rank);
  void attempt(int rank);
  template <class Condition>
  void wait_until(const Condition& holds) const;

  const int size_, spins_;
  pid_t process_ = 0;  // whose threads they are; 0 where starting them failed
  std::unique_ptr<Meeting> meeting_;
};

}  // namespace diffwave
