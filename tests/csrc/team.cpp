// csrc/cpu/team.h where its work fails, or its threads cannot be started. Exits with 0 when all is as it should be.
#include "cpu/team.h"

#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <stdexcept>
#include <string>
#include <system_error>

namespace {

constexpr int kMembers = 4, kBarriers = 3;

void demand(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "not so: %s\n", what);
  _exit(1);
}

// All members pass all barriers.
bool works(diffwave::Team& team) {
  std::atomic<int> passed{0};
  team.run([&](int) {
    for (int i = 0; i < kBarriers; ++i) {
      team.barrier();
      ++passed;
    }
  });
  return passed == kMembers * kBarriers;
}

// Some members fail in front of a barrier; the others wait there, or at a later one.
void fail(diffwave::Team& team, int who, int barrier) {
  std::string caught;
  try {
    team.run([&](int rank) {
      for (int i = 0; i < kBarriers; ++i) {
        if (i == barrier && (who >> rank & 1)) throw std::runtime_error("of the work");
        team.barrier();
      }
    });
  } catch (const std::runtime_error& error) {
    caught = error.what();
  }
  demand(caught == "of the work", "what the work throws is thrown by run");
  demand(works(team), "the team works after a failure");
}

// In a forked child, whose first call starts threads: none can be, with stacks of the size of all memory.
void without_threads(diffwave::Team& team) {
  pthread_attr_t before, vast;
  pthread_getattr_default_np(&before);
  pthread_getattr_default_np(&vast);
  pthread_attr_setstacksize(&vast, size_t{1} << 47);
  demand(pthread_setattr_default_np(&vast) == 0, "stacks may be asked to be large");
  bool refused = false;
  try {
    team.run([](int) {});
  } catch (const std::system_error&) {
    refused = true;
  }
  pthread_setattr_default_np(&before);
  demand(refused, "a thread that cannot be started is an error");
}

}  // namespace

int main(int count, char**) {
  diffwave::Team team(kMembers);
  demand(works(team), "the team works");
  for (int times = 0; times < 50; ++times)
    for (int who = 1; who < 1 << kMembers; ++who) fail(team, who, times % kBarriers);
  if (count > 1) return 0;  // ThreadSanitizer wants no forks
  for (bool again : {false, true}) {
    const pid_t child = fork();
    if (child == 0) {
      without_threads(team);
      if (again) demand(works(team), "the team works once it can start threads");
      return 0;
    }
    int status = 0;
    waitpid(child, &status, 0);
    demand(WIFEXITED(status) && WEXITSTATUS(status) == 0, "a forked child ends well");
  }
}
