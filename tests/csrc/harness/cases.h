// The kinds of test cases: each compares two computations of the same result.
#pragma once

#include <exception>
#include <thread>

#include "check_operations.h"

namespace harness {

template <class E>
long reach_of(const Job<E>& job) {
  return std::max(job.network->reach, 1L);
}

// Draws the tile's rows. With more threads, barriers are slower, so tiles are larger and fewer.
template <class E>
void draw_rows(Random& random, const Job<E>& job, Execution& execution) {
  const long S = static_cast<long>(job.steps.size()), N = static_cast<long>(job.network->layers.size());
  const long barriers = execution.threads == 1 ? 3000 : execution.threads == 2 ? 200 : 60;
  const long tiles = std::max(barriers / (S * (N + 1)), 1L);
  const long least = (job.length + reach_of(job)) / tiles / execution.threads / kUnit + 1;
  execution.rows = kUnit * random.spread(std::min(least, 32L), 32);
}

template <class E>
Execution random_execution(Random& random, const Job<E>& job) {
  Execution execution;
  execution.threads = static_cast<int>(random.chance(70) ? random.between(1, 2) : random.between(3, 8));
  execution.seed = random.next();
  draw_rows(random, job, execution);
  return execution;
}

template <class E>
Execution tiled(Random& random, const Job<E>& job) {
  return random_execution(random, job);
}

template <class E>
void split(Random& random, const Job<E>& job, Execution& execution) {
  const size_t S = job.steps.size();
  if (S < 2) return;
  const size_t first = static_cast<size_t>(random.between(1, static_cast<long>(S) - 1));
  execution.parts = {first, S - first};
}

template <class E>
Execution streamed(Random& random, const Job<E>& job) {
  Execution execution = random_execution(random, job);
  execution.grows = random.chance(85);
  execution.hold = random.chance(50) ? Hold::kTile : Hold::kStep;
  if (random.chance(30)) split(random, job, execution);
  return execution;
}

template <class E>
Execution in_two_sweeps(Random& random, const Job<E>& job) {
  Execution execution = random_execution(random, job);
  split(random, job, execution);
  execution.at_once = random.chance(50);
  execution.hold = static_cast<Hold>(random.below(3));
  return execution;
}

template <class E>
Execution any(Random& random, const Job<E>& job) {
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
  const Floats x = run(job, single_tile(job));
  expect_finite(x, "in a single tile");
  return x;
}

template <class E>
void check_execution(const Job<E>& job, const Execution& execution) {
  compare(reference(job), run(job, execution), execution.description());
}

// An abandoned sweep does not affect later ones, which reuse its memory.
template <class E>
void check_abandoned(Random& random, const Job<E>& job) {
  const Floats expected = reference(job);
  Execution execution = any(random, job);
  for (long i = random.between(1, 2); i > 0; --i) {
    Execution stopped = execution;
    stopped.stop_after = random.spread(1, 20) - 1;
    run(job, stopped);
    execution = any(random, job);
  }
  compare(expected, run(job, execution), "after abandoned sweeps, " + execution.description());
}

// Concurrent sweeps of one network in several threads, some of them abandoned.
template <class E>
void check_together(Random& random, const Job<E>& job) {
  const Floats expected = reference(job);
  std::vector<Execution> executions(static_cast<size_t>(random.between(2, 4)));
  for (Execution& execution : executions) {
    execution = any(random, job);
    execution.threads = static_cast<int>(random.pick({1, 1, 1, 2, 2, 3}));
    if (random.chance(20)) execution.stop_after = random.spread(1, 20) - 1;
  }
  std::vector<Floats> got(executions.size());
  std::vector<std::exception_ptr> errors(executions.size());
  std::vector<std::thread> threads;
  for (size_t i = 0; i < executions.size(); ++i)
    threads.emplace_back([&, i] {
      try {
        got[i] = run(job, executions[i]);
      } catch (...) {
        errors[i] = std::current_exception();
      }
    });
  for (std::thread& thread : threads) thread.join();
  for (size_t i = 0; i < executions.size(); ++i) {
    if (errors[i]) std::rethrow_exception(errors[i]);
    if (executions[i].stop_after < 0)
      compare(expected, got[i], "concurrent with others, " + executions[i].description());
  }
}

enum Kind { kOperation, kComposed, kTiled, kStreamed, kSplit, kAbandoned, kRowsTogether, kKinds };
constexpr const char* kNames[kKinds] = {"operation", "composed", "tiled", "streamed", "split", "abandoned", "together"};

inline Kind random_kind(Random& random) {
  return static_cast<Kind>(
      random.pick({kOperation, kOperation, kOperation, kOperation, kComposed,     kTiled,       kTiled,
                   kTiled,     kTiled,     kStreamed,  kStreamed,  kStreamed,     kStreamed,    kStreamed,
                   kStreamed,  kSplit,     kSplit,     kAbandoned, kRowsTogether, kRowsTogether}));
}

template <class E>
void check(Kind kind, Random& random, const Job<E>& job) {
  switch (kind) {
    case kOperation:
      return check_operation(random, job);
    case kComposed:
      // Int8 differs: a sweep quantizes rows before they are rounded for the ring, a single operation afterwards.
      if (job.network->int8()) return;
      return compare(composed(job), reference(job), "a sweep, expected the result of single operations");
    case kTiled:
      return check_execution(job, tiled(random, job));
    case kStreamed:
      return check_execution(job, streamed(random, job));
    case kSplit:
      return check_execution(job, in_two_sweeps(random, job));
    case kAbandoned:
      return check_abandoned(random, job);
    default:
      return check_together(random, job);
  }
}

}  // namespace harness
