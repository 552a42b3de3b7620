#include "measure_peak.h"

#include <chrono>
#include <numeric>
#include <vector>

#include "team.h"

namespace diffwave {

double measure_peak(double (*peak)(int64_t rounds), int threads, double seconds) {
  using Clock = std::chrono::steady_clock;
  Team team(threads);
  // Doubles the rounds until the run is long enough: in a short run, the time in which threads wake up distorts the
  // rate.
  for (int64_t rounds = 100000;; rounds *= 2) {
    std::vector<double> work(static_cast<size_t>(threads));
    const auto start = Clock::now();
    team.run([&](int rank) { work[static_cast<size_t>(rank)] = peak(rounds); });
    const double elapsed = std::chrono::duration<double>(Clock::now() - start).count();
    if (elapsed >= seconds / 2) return std::accumulate(work.begin(), work.end(), 0.0) / elapsed;
  }
}

}  // namespace diffwave
