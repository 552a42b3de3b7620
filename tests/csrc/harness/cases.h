// The kinds of cases.
#pragma once

#include <exception>
#include <thread>

#include "operations.h"

namespace harness {

template <class E>
long reach_of(const Job<E>& job) {
  return std::max(job.network->reach, 1L);
}

// Barriers cost the more the more threads share the processors: the tiles are then so large that there are few.
template <class E>
void draw_rows(Random& random, const Job<E>& job, Way& way) {
  const long S = static_cast<long>(job.steps.size()), N = static_cast<long>(job.network->layers.size());
  const long barriers = way.threads == 1 ? 3000 : way.threads == 2 ? 200 : 60;
  const long tiles = std::max(barriers / (S * (N + 1)), 1L);
  const long least = (job.length + reach_of(job)) / tiles / way.threads / kUnit + 1;
  way.rows = kUnit * random.spread(std::min(least, 32L), 32);
}

template <class E>
Way random_way(Random& random, const Job<E>& job) {
  Way way;
  way.threads = static_cast<int>(random.chance(70) ? random.between(1, 2) : random.between(3, 8));
  way.seed = random.next();
  draw_rows(random, job, way);
  return way;
}

template <class E>
Way tiled(Random& random, const Job<E>& job) {
  return random_way(random, job);
}

template <class E>
void split(Random& random, const Job<E>& job, Way& way) {
  const size_t S = job.steps.size();
  if (S < 2) return;
  const size_t first = static_cast<size_t>(random.between(1, static_cast<long>(S) - 1));
  way.parts = {first, S - first};
}

template <class E>
Way streamed(Random& random, const Job<E>& job) {
  Way way = random_way(random, job);
  way.grows = random.chance(85);
  way.hold = random.chance(50) ? Hold::kTile : Hold::kStep;
  if (random.chance(30)) split(random, job, way);
  return way;
}

template <class E>
Way in_two_sweeps(Random& random, const Job<E>& job) {
  Way way = random_way(random, job);
  split(random, job, way);
  way.at_once = random.chance(50);
  way.hold = static_cast<Hold>(random.below(3));
  return way;
}

template <class E>
Way any(Random& random, const Job<E>& job) {
  switch (random.below(3)) {
    case 0:
      return tiled(random, job);
    case 1:
      return streamed(random, job);
    default:
      return in_two_sweeps(random, job);
  }
}

template <class E>
Floats reference(const Job<E>& job) {
  const Floats x = run(job, in_one_piece(job));
  expect_finite(x, "in one piece");
  return x;
}

template <class E>
void check_way(const Job<E>& job, const Way& way) {
  compare(reference(job), run(job, way), way.description());
}

// Sweeps that end before their audio does leave nothing behind for those after them.
template <class E>
void check_abandoned(Random& random, const Job<E>& job) {
  const Floats expected = reference(job);
  Way way = any(random, job);
  for (long i = random.between(1, 2); i > 0; --i) {
    Way stopped = way;
    stopped.stop_after = random.spread(1, 20) - 1;
    run(job, stopped);
    way = any(random, job);
  }
  compare(expected, run(job, way), "after some that were abandoned, " + way.description());
}

// One network, several sweeps of it in as many threads, of which some are abandoned.
template <class E>
void check_together(Random& random, const Job<E>& job) {
  const Floats expected = reference(job);
  std::vector<Way> ways(static_cast<size_t>(random.between(2, 4)));
  for (Way& way : ways) {
    way = any(random, job);
    way.threads = static_cast<int>(random.pick({1, 1, 1, 2, 2, 3}));
    if (random.chance(20)) way.stop_after = random.spread(1, 20) - 1;
  }
  std::vector<Floats> got(ways.size());
  std::vector<std::exception_ptr> errors(ways.size());
  std::vector<std::thread> threads;
  for (size_t i = 0; i < ways.size(); ++i)
    threads.emplace_back([&, i] {
      try {
        got[i] = run(job, ways[i]);
      } catch (...) {
        errors[i] = std::current_exception();
      }
    });
  for (std::thread& thread : threads) thread.join();
  for (size_t i = 0; i < ways.size(); ++i) {
    if (errors[i]) std::rethrow_exception(errors[i]);
    if (ways[i].stop_after < 0) compare(expected, got[i], "together with others, " + ways[i].description());
  }
}

enum Kind { kOperation, kComposed, kTiled, kStreamed, kSplit, kAbandoned, kTogether, kKinds };
constexpr const char* kNames[kKinds] = {"operation", "composed", "tiled", "streamed", "split", "abandoned", "together"};

inline Kind random_kind(Random& random) {
  return static_cast<Kind>(random.pick({kOperation, kOperation, kOperation, kOperation, kComposed, kTiled,    kTiled,
                                        kTiled,     kTiled,     kStreamed,  kStreamed,  kStreamed, kStreamed, kStreamed,
                                        kStreamed,  kSplit,     kSplit,     kAbandoned, kTogether, kTogether}));
}

template <class E>
void check(Kind kind, Random& random, const Job<E>& job) {
  switch (kind) {
    case kOperation:
      return check_operation(random, job);
    case kComposed:
      // A sweep quantizes rows before they are rounded for the ring, an operation what it is handed.
      if (!job.network->quantized.empty()) return;
      return compare(composed(job), reference(job), "a sweep, expected what single operations give");
    case kTiled:
      return check_way(job, tiled(random, job));
    case kStreamed:
      return check_way(job, streamed(random, job));
    case kSplit:
      return check_way(job, in_two_sweeps(random, job));
    case kAbandoned:
      return check_abandoned(random, job);
    default:
      return check_together(random, job);
  }
}

}  // namespace harness
