// The ways to compute an utterance: all must give the same bytes. The order of tiles is that of
// engine/sampling/cpu/pipeline.py; the checks in csrc/bindings.cpp define what a tile may use.
#pragma once

#include <stdexcept>

#include "window.h"

namespace harness {

using diffwave::kUnit;
using diffwave::kUnknown;
using diffwave::Sweep;

// Samples in the window: the whole utterance, those that a tile may use, or those that one step of a tile may use.
enum class Hold { kAll, kTile, kStep };

struct Execution {
  int threads = 1;
  long rows = 0;  // rows of a tile per thread
  Hold hold = Hold::kAll;
  bool grows = false;         // whether the mel (or x without a mel) arrives in pieces
  std::vector<size_t> parts;  // the number of steps of each sweep
  bool at_once = true;        // whether the sweeps advance together, else one after the other
  long stop_after = -1;       // abandons the execution after this number of calls to advance
  uint64_t seed = 0;          // of the sizes of pieces and tiles

  std::string description() const;
};

struct Abandoned {};

// Some of the steps, which advance through time together.
template <class E>
class StepPipeline {
 public:
  StepPipeline(const Job<E>& job, const Execution& execution, size_t first, const std::vector<size_t>& parts, Floats& x,
               long* tiles);

  void run();

 private:
  struct Place {
    Sweep<E>* sweep;
    int step;
  };
  // A step's part of a tile: input samples, samples of x that are read or written, samples that become final, and the
  // frames of the mel.
  struct Share {
    Span in, touched, final, frames;
  };

  long reach() const { return job_.network->reach; }
  long total() const { return job_.has_mel() ? job_.frames : job_.length; }
  long available() const;
  long random_rows(long limit) { return std::min(kUnit * random_.spread(1, limit / kUnit), tile_); }
  void grow_input();
  void advance(long rows);
  Share share(size_t index, long begin, long rows) const;
  void hold_all();
  void hold_tile(long rows);
  void hold_step(size_t index, const Share& share);
  void bind();

  const Job<E>& job_;
  const Execution& execution_;
  const size_t first_;  // index of the first step
  Floats& x_;
  long* const tiles_;
  Random random_;
  std::vector<std::unique_ptr<Sweep<E>>> sweeps_;
  std::vector<Place> places_;
  Window window_;
  long length_, begin_ = 0, lag_, tile_;
  long received_;  // frames of the input, or samples without a mel
};

template <class E>
StepPipeline<E>::StepPipeline(const Job<E>& job, const Execution& execution, size_t first,
                              const std::vector<size_t>& parts, Floats& x, long* tiles)
    : job_(job),
      execution_(execution),
      first_(first),
      x_(x),
      tiles_(tiles),
      random_(execution.seed + first),
      length_(execution.grows ? kUnknown : job.length),
      received_(execution.grows ? 0 : total()) {
  for (size_t part : parts) {
    const auto from = job.steps.begin() + static_cast<long>(first);
    std::vector<Step> steps(from, from + static_cast<long>(part));
    const float* rows = job.conditioner_rows.empty() ? nullptr : job.conditioner_rows.data();
    sweeps_.push_back(
        std::make_unique<Sweep<E>>(job.network, std::move(steps), length_, execution.threads, execution.rows, rows));
    for (size_t step = 0; step < part; ++step) places_.push_back({sweeps_.back().get(), static_cast<int>(step)});
    first += part;
  }
  lag_ = static_cast<long>(places_.size()) * reach();
  tile_ = sweeps_[0]->tile();
}

template <class E>
void StepPipeline<E>::run() {
  if (execution_.grows) grow_input();
  if (execution_.hold == Hold::kAll) hold_all();
  for (long left; (left = job_.length + lag_ - begin_) > 0;) {
    const long limit = std::min((left + kUnit - 1) / kUnit * kUnit, tile_);
    advance(execution_.hold == Hold::kAll ? limit : random_rows(limit));
  }
  window_.close(x_);
}

// Advances while the input arrives, until all of it has arrived and the length is known.
template <class E>
void StepPipeline<E>::grow_input() {
  while (received_ < total()) {
    received_ = std::min(received_ + random_.spread(1, total()), total());
    if (received_ == total() && random_.chance(30)) break;
    while (available() - begin_ >= kUnit && !random_.chance(10)) advance(random_rows(available() - begin_));
  }
  length_ = job_.length;
  for (auto& sweep : sweeps_) sweep->end(length_);
}

// The number of samples that can be computed from the input so far.
template <class E>
long StepPipeline<E>::available() const {
  if (!job_.has_mel()) return received_;
  long t = received_ * job_.network->hop();
  while (t > 0 && diffwave::frames_of(job_.network->strides, 0, t).second > received_) --t;
  return t;
}

template <class E>
void StepPipeline<E>::advance(long rows) {
  if (execution_.hold == Hold::kTile) hold_tile(rows);
  for (size_t index = 0; index < places_.size(); ++index) {
    const long step_begin = begin_ - static_cast<long>(index) * reach();
    if (step_begin <= -rows || step_begin >= length_ + reach()) continue;
    if (execution_.stop_after >= 0 && *tiles_ >= execution_.stop_after) throw Abandoned();
    ++*tiles_;
    if (execution_.hold == Hold::kStep) hold_step(index, share(index, begin_, rows));
    places_[index].sweep->advance(places_[index].step, step_begin, rows);
  }
  begin_ += rows;
}

template <class E>
typename StepPipeline<E>::Share StepPipeline<E>::share(size_t index, long begin, long rows) const {
  const auto inside = [&](long first, long last) {
    return Span{std::clamp(first, 0L, job_.length), std::clamp(last, 0L, std::min(length_, job_.length))};
  };
  const long step_begin = begin - static_cast<long>(index) * reach();
  if (step_begin <= -rows || step_begin >= length_ + reach()) return {};
  Share share;
  share.in = inside(step_begin, step_begin + rows);
  share.touched = inside(step_begin - reach(), step_begin + rows);
  share.final = inside(step_begin - reach(), step_begin - reach() + rows);
  const Span mel = job_.network->shared_upsampler() ? share.in : share.touched;
  if (!job_.has_mel() || places_[index].step != 0 || mel.size() == 0) return share;
  const auto [low, high] = diffwave::frames_of(job_.network->strides, mel.first, mel.last);
  share.frames = {std::max(low, 0L), std::min(high, job_.frames)};
  if (share.frames.last > received_) throw std::logic_error("frames: expected only received ones, got later ones");
  return share;
}

template <class E>
void StepPipeline<E>::hold_all() {
  window_.close(x_);
  const Span samples{0, job_.length};
  const Span steps{static_cast<long>(first_), static_cast<long>(first_ + places_.size())};
  window_.open(random_, job_, x_, samples, {0, job_.frames}, {steps, samples});
  bind();
}

template <class E>
void StepPipeline<E>::hold_tile(long rows) {
  const auto whole = [&](long count) {
    Share all;
    for (size_t index = 0; index < places_.size(); ++index) {
      const Share part = share(index, begin_, count);
      all.touched = all.touched.hull(part.touched);
      all.frames = all.frames.hull(part.frames);
    }
    return all;
  };
  Share needed = whole(rows);
  if (window_.holds(needed.touched, needed.frames) && random_.chance(80)) return;
  const long limit = (length_ == kUnknown ? available() : length_ + lag_) - begin_;
  if (random_.chance(50) && limit > rows) needed = whole(random_.between(rows, limit));
  window_.close(x_);
  const Span steps{static_cast<long>(first_), static_cast<long>(first_ + places_.size())};
  window_.open(random_, job_, x_, needed.touched, needed.frames, {steps, needed.touched});
  bind();
}

template <class E>
void StepPipeline<E>::hold_step(size_t index, const Share& share) {
  window_.close(x_);
  const long step = static_cast<long>(first_ + index);
  window_.open(random_, job_, x_, share.touched, share.frames, {{step, step + 1}, share.final});
  places_[index].sweep->bind(window_.from_step(0));
}

template <class E>
void StepPipeline<E>::bind() {
  for (size_t index = 0; index < places_.size(); ++index)
    if (places_[index].step == 0) places_[index].sweep->bind(window_.from_step(index));
}

// Returns the audio, or the current x if the execution was abandoned.
template <class E>
Floats run(const Job<E>& job, const Execution& execution, long* tiles = nullptr) {
  Floats x = job.x;
  long count = 0;
  if (!tiles) tiles = &count;
  std::vector<size_t> parts = execution.parts.empty() ? std::vector<size_t>{job.steps.size()} : execution.parts;
  try {
    if (execution.at_once) {
      StepPipeline<E>(job, execution, 0, parts, x, tiles).run();
      return x;
    }
    size_t first = 0;
    for (size_t part : parts) {
      StepPipeline<E>(job, execution, first, {part}, x, tiles).run();
      first += part;
    }
  } catch (const Abandoned&) {
  }
  return x;
}

// The reference execution: one tile on one thread.
template <class E>
Execution single_tile(const Job<E>& job) {
  Execution execution;
  execution.rows = (job.length + static_cast<long>(job.steps.size()) * job.network->reach + kUnit - 1) / kUnit * kUnit;
  return execution;
}

inline std::string Execution::description() const {
  const auto number = [](auto value) { return std::to_string(value); };
  std::string text = number(threads) + " threads of " + number(rows) + " rows, window of ";
  text += hold == Hold::kAll ? "everything" : hold == Hold::kTile ? "a tile" : "a step";
  if (grows) text += ", growing";
  for (size_t part : parts) text += ", a sweep of " + number(part);
  if (parts.size() > 1) text += at_once ? ", at once" : ", one after the other";
  if (stop_after >= 0) text += ", abandoned after " + number(stop_after) + " tiles";
  return text;
}

}  // namespace harness
