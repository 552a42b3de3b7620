// The ways in which an utterance can be computed, all of which must give the same bytes. The order of tiles is that of
// engine/sampling/cpu/pipeline.py, the checks of csrc/bindings.cpp say what a tile may use.
#pragma once

#include <stdexcept>

#include "window.h"

namespace harness {

using diffwave::kUnit;
using diffwave::kUnknown;
using diffwave::Sweep;

enum class Hold { kAll, kTile, kStep };  // what is at hand: everything, what a tile may use, what a step of it may

struct Way {
  int threads = 1;
  long rows = 0;  // of a tile, per thread
  Hold hold = Hold::kAll;
  bool grows = false;         // the mel, or x where there is none, comes in pieces
  std::vector<size_t> parts;  // the steps of every sweep
  bool at_once = true;        // the sweeps travel together, else one after the other
  long stop_after = -1;       // tiles of steps, then it is abandoned
  uint64_t seed = 0;          // of the pieces' and the tiles' sizes

  std::string description() const;
};

struct Abandoned {};

// Some of the steps, on their way through time together.
template <class E>
class Journey {
 public:
  Journey(const Job<E>& job, const Way& way, size_t first, const std::vector<size_t>& parts, Floats& x, long* tiles);

  void go();

 private:
  struct Place {
    Sweep<E>* sweep;
    int step;
  };
  // A step's part of a tile: it takes in [begin, end) of the audio, and [done, until) become final.
  struct Share {
    Span in, touched, final, frames;
  };

  long reach() const { return job_.network->reach; }
  long total() const { return job_.has_mel() ? job_.frames : job_.length; }
  long available() const;
  long random_rows(long most) { return std::min(kUnit * random_.spread(1, most / kUnit), tile_); }
  void grow();
  void send(long rows);
  Share share(size_t number, long begin, long rows) const;
  void hold_all();
  void hold_tile(long rows);
  void hold_step(size_t number, const Share& share);
  void bind();

  const Job<E>& job_;
  const Way& way_;
  const size_t first_;  // of the steps
  Floats& x_;
  long* const tiles_;
  Random random_;
  std::vector<std::unique_ptr<Sweep<E>>> sweeps_;
  std::vector<Place> places_;
  Window window_;
  long length_, begin_ = 0, lag_, tile_;
  long given_;  // frames, or samples where there is no mel
};

template <class E>
Journey<E>::Journey(const Job<E>& job, const Way& way, size_t first, const std::vector<size_t>& parts, Floats& x,
                    long* tiles)
    : job_(job),
      way_(way),
      first_(first),
      x_(x),
      tiles_(tiles),
      random_(way.seed + first),
      length_(way.grows ? kUnknown : job.length),
      given_(way.grows ? 0 : total()) {
  for (size_t part : parts) {
    const auto from = job.steps.begin() + static_cast<long>(first);
    std::vector<Step> steps(from, from + static_cast<long>(part));
    const float* rows = job.conditioner_rows.empty() ? nullptr : job.conditioner_rows.data();
    sweeps_.push_back(std::make_unique<Sweep<E>>(job.network, std::move(steps), length_, way.threads, way.rows, rows));
    for (size_t step = 0; step < part; ++step) places_.push_back({sweeps_.back().get(), static_cast<int>(step)});
    first += part;
  }
  lag_ = static_cast<long>(places_.size()) * reach();
  tile_ = sweeps_[0]->tile();
}

template <class E>
void Journey<E>::go() {
  if (way_.grows) grow();
  if (way_.hold == Hold::kAll) hold_all();
  for (long left; (left = job_.length + lag_ - begin_) > 0;) {
    const long most = std::min((left + kUnit - 1) / kUnit * kUnit, tile_);
    send(way_.hold == Hold::kAll ? most : random_rows(most));
  }
  window_.close(x_);
}

// Until all of the mel is there and the length is known.
template <class E>
void Journey<E>::grow() {
  while (given_ < total()) {
    given_ = std::min(given_ + random_.spread(1, total()), total());
    if (given_ == total() && random_.chance(30)) break;
    while (available() - begin_ >= kUnit && !random_.chance(10)) send(random_rows(available() - begin_));
  }
  length_ = job_.length;
  for (auto& sweep : sweeps_) sweep->end(length_);
}

// The samples before this one follow from what is given.
template <class E>
long Journey<E>::available() const {
  if (!job_.has_mel()) return given_;
  long t = given_ * job_.network->hop();
  while (t > 0 && diffwave::frames_of(job_.network->strides, 0, t).second > given_) --t;
  return t;
}

template <class E>
void Journey<E>::send(long rows) {
  if (way_.hold == Hold::kTile) hold_tile(rows);
  for (size_t number = 0; number < places_.size(); ++number) {
    const long at = begin_ - static_cast<long>(number) * reach();
    if (at <= -rows || at >= length_ + reach()) continue;
    if (way_.stop_after >= 0 && *tiles_ >= way_.stop_after) throw Abandoned();
    ++*tiles_;
    if (way_.hold == Hold::kStep) hold_step(number, share(number, begin_, rows));
    places_[number].sweep->advance(places_[number].step, at, rows);
  }
  begin_ += rows;
}

template <class E>
typename Journey<E>::Share Journey<E>::share(size_t number, long begin, long rows) const {
  const auto inside = [&](long first, long last) {
    return Span{std::clamp(first, 0L, job_.length), std::clamp(last, 0L, std::min(length_, job_.length))};
  };
  const long at = begin - static_cast<long>(number) * reach();
  if (at <= -rows || at >= length_ + reach()) return {};
  Share share;
  share.in = inside(at, at + rows);
  share.touched = inside(at - reach(), at + rows);
  share.final = inside(at - reach(), at - reach() + rows);
  const Span mel = job_.network->upsamplers.size() == 1 ? share.in : share.touched;
  if (!job_.has_mel() || places_[number].step != 0 || mel.size() == 0) return share;
  const auto [low, high] = diffwave::frames_of(job_.network->strides, mel.first, mel.last);
  share.frames = {std::max(low, 0L), std::min(high, job_.frames)};
  if (share.frames.last > given_) throw std::logic_error("the harness sent a tile too early");
  return share;
}

template <class E>
void Journey<E>::hold_all() {
  window_.close(x_);
  const Span samples{0, job_.length};
  const Span steps{static_cast<long>(first_), static_cast<long>(first_ + places_.size())};
  window_.open(random_, job_, x_, samples, {0, job_.frames}, {steps, samples});
  bind();
}

template <class E>
void Journey<E>::hold_tile(long rows) {
  const auto whole = [&](long count) {
    Share all;
    for (size_t number = 0; number < places_.size(); ++number) {
      const Share one = share(number, begin_, count);
      all.touched = all.touched.hull(one.touched);
      all.frames = all.frames.hull(one.frames);
    }
    return all;
  };
  Share wanted = whole(rows);
  if (window_.holds(wanted.touched, wanted.frames) && random_.chance(80)) return;
  const long most = (length_ == kUnknown ? available() : length_ + lag_) - begin_;
  if (random_.chance(50) && most > rows) wanted = whole(random_.between(rows, most));
  window_.close(x_);
  const Span steps{static_cast<long>(first_), static_cast<long>(first_ + places_.size())};
  window_.open(random_, job_, x_, wanted.touched, wanted.frames, {steps, wanted.touched});
  bind();
}

template <class E>
void Journey<E>::hold_step(size_t number, const Share& share) {
  window_.close(x_);
  const long step = static_cast<long>(first_ + number);
  window_.open(random_, job_, x_, share.touched, share.frames, {{step, step + 1}, share.final});
  places_[number].sweep->bind(window_.from_step(0));
}

template <class E>
void Journey<E>::bind() {
  for (size_t number = 0; number < places_.size(); ++number)
    if (places_[number].step == 0) places_[number].sweep->bind(window_.from_step(number));
}

// The audio; x as it is where the way was abandoned.
template <class E>
Floats run(const Job<E>& job, const Way& way, long* tiles = nullptr) {
  Floats x = job.x;
  long count = 0;
  if (!tiles) tiles = &count;
  std::vector<size_t> parts = way.parts.empty() ? std::vector<size_t>{job.steps.size()} : way.parts;
  try {
    if (way.at_once) {
      Journey<E>(job, way, 0, parts, x, tiles).go();
      return x;
    }
    size_t first = 0;
    for (size_t part : parts) {
      Journey<E>(job, way, first, {part}, x, tiles).go();
      first += part;
    }
  } catch (const Abandoned&) {
  }
  return x;
}

// One tile, one thread: what every other way is compared with.
template <class E>
Way in_one_piece(const Job<E>& job) {
  Way way;
  way.rows = (job.length + static_cast<long>(job.steps.size()) * job.network->reach + kUnit - 1) / kUnit * kUnit;
  return way;
}

inline std::string Way::description() const {
  const auto number = [](auto value) { return std::to_string(value); };
  std::string text = number(threads) + " threads of " + number(rows) + " rows, holding ";
  text += hold == Hold::kAll ? "everything" : hold == Hold::kTile ? "what a tile uses" : "what a step uses";
  if (grows) text += ", growing";
  for (size_t part : parts) text += ", a sweep of " + number(part);
  if (parts.size() > 1) text += at_once ? ", at once" : ", one after the other";
  if (stop_after >= 0) text += ", abandoned after " + number(stop_after) + " tiles";
  return text;
}

}  // namespace harness
