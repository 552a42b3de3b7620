// A test of csrc/cpu/team.h for work that throws, threads that wait, and threads that cannot be started. Exits with 0
// on success.
#include "cpu/team.h"

#include <pthread.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>

namespace {

constexpr int kThreads = 4, kBarriers = 3;

void expect(bool condition, const char* text) {
  if (condition) return;
  std::fprintf(stderr, "expected: %s\n", text);
  _exit(1);
}

// Whether all threads pass all barriers.
bool works(diffwave::Team& team) {
  std::atomic<int> passed{0};
  team.run([&](int) {
    for (int i = 0; i < kBarriers; ++i) {
      team.barrier();
      ++passed;
    }
  });
  return passed == kThreads * kBarriers;
}

// The threads in the bit mask `failing` throw before a barrier; the others wait at it, or at a later one.
void check_failure(diffwave::Team& team, int failing, int barrier) {
  std::string caught;
  try {
    team.run([&](int rank) {
      for (int i = 0; i < kBarriers; ++i) {
        if (i == barrier && (failing >> rank & 1)) throw std::runtime_error("failed");
        team.barrier();
      }
    });
  } catch (const std::runtime_error& error) {
    caught = error.what();
  }
  expect(caught == "failed", "run rethrows the exception of the work");
  expect(works(team), "the team works after a failure");
}

void sleep_ms(int ms) { std::this_thread::sleep_for(std::chrono::milliseconds(ms)); }

double cpu_seconds() {
  timespec time;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

// One thread is late, at a barrier or at the end. The others wait without a processor.
void check_waiting(diffwave::Team& team, int late, bool at_barrier) {
  const double begin = cpu_seconds();
  team.run([&](int rank) {
    if (rank == late) sleep_ms(500);
    if (at_barrier) team.barrier();
  });
  const double used = cpu_seconds() - begin;
  if (used > 0.1) std::fprintf(stderr, "%.3f s of processor time\n", used);
  expect(used <= 0.1, "threads that wait leave their processors to others");
}

// Threads fall asleep at every kind of wait, and wake each other from it; every thread sees what the others wrote
// before the barrier.
void check_sleepers(int size) {
  diffwave::Team team(size);
  int sum = 0;  // written between barriers by one thread at a time, in turns
  const int turns = 3 * size;
  for (int round = 0; round < 3; ++round) {
    team.run([&](int rank) {
      for (int turn = 0; turn < turns; ++turn) {
        if (rank == turn % size) {
          if (turn % 3 == 0) sleep_ms(2);
          sum += turn;
        }
        team.barrier();
      }
      if (rank == round % size) sleep_ms(2);
    });
    expect(sum == (round + 1) * turns * (turns - 1) / 2, "barriers order the work of threads that slept");
    sleep_ms(2);
  }
}

// In a forked child, whose first call starts threads. Stacks larger than memory make that fail.
void check_without_threads(diffwave::Team& team) {
  pthread_attr_t before, vast;
  pthread_getattr_default_np(&before);
  pthread_getattr_default_np(&vast);
  pthread_attr_setstacksize(&vast, size_t{1} << 47);
  expect(pthread_setattr_default_np(&vast) == 0, "the system accepts a large stack size");
  bool refused = false;
  try {
    team.run([](int) {});
  } catch (const std::system_error&) {
    refused = true;
  }
  pthread_setattr_default_np(&before);
  expect(refused, "run throws where threads cannot be started");
}

}  // namespace

int main(int count, char**) {
  diffwave::Team team(kThreads);
  expect(works(team), "the team works");
  for (int round = 0; round < 50; ++round)
    for (int failing = 1; failing < 1 << kThreads; ++failing) check_failure(team, failing, round % kBarriers);
  for (int late : {0, 1, kThreads - 1})
    for (bool at_barrier : {true, false}) check_waiting(team, late, at_barrier);
  for (int size : {1, 2, 3, kThreads, 16}) check_sleepers(size);
  for (int i = 0; i < 200; ++i) diffwave::Team(1 + i % kThreads);  // threads stop that are awake, asleep or between
  if (count > 1) return 0;                                         // ThreadSanitizer does not support forks
  for (bool again : {false, true}) {
    const pid_t child = fork();
    if (child == 0) {
      check_without_threads(team);
      if (again) expect(works(team), "the team works once it can start threads");
      return 0;
    }
    int status = 0;
    waitpid(child, &status, 0);
    expect(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the forked child exits with 0");
  }
}
