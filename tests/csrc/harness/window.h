// The window of an utterance that a sweep reads. Each signal is a copy in an allocation of exactly the permitted size,
// so that a sanitizer detects any access outside of what a tile may use.
#pragma once

#include <limits>
#include <memory>

#include "job.h"

namespace harness {

struct Span {
  long first = 0, last = 0;

  long size() const { return std::max(last - first, 0L); }
  bool holds(const Span& other) const { return other.size() == 0 || (first <= other.first && other.last <= last); }
  Span hull(const Span& other) const {
    if (other.size() == 0) return *this;
    if (size() == 0) return other;
    return {std::min(first, other.first), std::max(last, other.last)};
  }
};

// The steps and samples of the noise in a window, and the samples of its scale.
struct NoiseSpan {
  Span steps, samples;
};

class Window {
 public:
  template <class E>
  void open(Random& random, const Job<E>& job, const Floats& x, Span samples, Span frames, NoiseSpan noise) {
    samples_ = samples;
    frames_ = frames;
    x_ = copy(x.data() + samples.first, samples.size());
    bound_.x = {x_.get(), samples.first};
    open_mel(random, job, frames);
    open_noise(job, noise);
    open_scale(job, noise.samples);
  }

  void close(Floats& x) {
    if (x_) std::copy_n(x_.get(), samples_.size(), x.data() + samples_.first);
    x_.reset();
    mel_.reset();
    noise_.reset();
    scale_.reset();
    samples_ = frames_ = {};
  }

  bool holds(const Span& samples, const Span& frames) const {
    return x_ && samples_.holds(samples) && frames_.holds(frames);
  }

  // The window of the sweep whose first step has index `first`.
  diffwave::Window from_step(size_t first) const {
    diffwave::Window window = bound_;
    if (window.noise.data) window.noise.data += static_cast<long>(first) * window.noise_stride;
    return window;
  }

 private:
  using Memory = std::unique_ptr<float[]>;

  static Memory space(long count) {
    Memory memory(new float[static_cast<size_t>(count)]);
    std::fill_n(memory.get(), count, std::numeric_limits<float>::quiet_NaN());
    return memory;
  }
  static Memory copy(const float* values, long count) {
    Memory memory = space(count);
    std::copy_n(values, count, memory.get());
    return memory;
  }

  // Copies the mel in a random memory layout: bands or frames contiguous, with or without gaps, frames in either order.
  template <class E>
  void open_mel(Random& random, const Job<E>& job, Span frames) {
    bound_.mel = {};
    const long M = job.network->bands, F = frames.size();
    if (M == 0 || F == 0) return;
    const bool by_band = random.chance(50), backwards = random.chance(20);
    const long gap = random.below(3);
    const long band = by_band ? F + gap : 1, frame = by_band ? 1 : M + gap;
    mel_ = space((M - 1) * band + (F - 1) * frame + 1);
    bound_.mel = {mel_.get(), band, frame, F, frames.first};
    if (backwards) {
      bound_.mel.data += (F - 1) * frame;
      bound_.mel.frame_stride = -frame;
    }
    float* const to = mel_.get() + (bound_.mel.data - mel_.get());
    for (long m = 0; m < M; ++m)
      for (long f = 0; f < F; ++f)
        to[m * band + f * bound_.mel.frame_stride] = job.mel[static_cast<size_t>(m * job.frames + frames.first + f)];
  }

  template <class E>
  void open_noise(const Job<E>& job, NoiseSpan noise) {
    bound_.noise = {};
    const long W = noise.samples.size();
    const long rows = std::min(noise.steps.last, static_cast<long>(job.noise.size()) / job.length) - noise.steps.first;
    if (rows <= 0) return;
    noise_ = space(rows * W);
    for (long row = 0; row < rows; ++row)
      std::copy_n(job.noise.data() + (noise.steps.first + row) * job.length + noise.samples.first, W,
                  noise_.get() + row * W);
    bound_.noise = {noise_.get(), noise.samples.first};
    bound_.noise_stride = rows == 1 ? 0 : W;
  }

  template <class E>
  void open_scale(const Job<E>& job, Span samples) {
    bound_.scale = {};
    if (job.scale.empty()) return;
    const long first = samples.first / job.repeat;
    const long count = samples.size() ? (samples.last - 1) / job.repeat + 1 - first : 0;
    scale_ = copy(job.scale.data() + first, count);
    bound_.scale = {scale_.get(), first, job.repeat};
  }

  diffwave::Window bound_;
  Memory x_, mel_, noise_, scale_;
  Span samples_, frames_;
};

}  // namespace harness
