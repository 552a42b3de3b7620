// A few threads that run the same function together, as often as asked, with barriers inside.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <condition_variable>
#include <functional>
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

  // Runs work(rank) for rank 0 .. size-1, rank 0 on the calling thread, and returns when all have finished. One call
  // at a time. After a fork the child's first call starts threads of its own.
  void run(const std::function<void(int)>& work);

  // For use inside work: nobody passes before all have arrived.
  void barrier();

 private:
  void start();
  void member(int rank);

  const int size_;
  pid_t process_;
  std::vector<std::thread> threads_;
  const std::function<void(int)>* work_ = nullptr;
  std::atomic<long> round_{0};
  std::atomic<int> arrived_{0};
  std::atomic<long> passed_{0};
  bool stop_ = false;
  std::mutex mutex_;
  std::condition_variable wake_;
};

}  // namespace diffwave
