// One utterance on its way through up to a handful of denoising steps at once. Time advances in tiles: layer i of
// step s is delayed by the dilations before it, so every row it needs is ready and each is computed once. What is
// kept is history, 2 * dilation rows per layer and step: the utterance's length does not enter, and need not be known.
#pragma once

#include <limits>
#include <memory>
#include <vector>

#include "network.h"
#include "team.h"
#include "upsample.h"

namespace diffwave {

// Every register tile divides it.
constexpr long kUnit = 12;

// The length of an utterance that has not ended yet.
constexpr long kUnknown = std::numeric_limits<long>::max() / 4;

struct Step {
  std::vector<float> d;  // [N][C]: the step's bias for every layer
  float a, b, sigma;     // x <- a x + b eps + sigma noise
  bool clamp;
  uint64_t seed;  // of the noise, where none is given
  uint32_t noise_step;
};

// What a sweep reads and updates, by absolute time: as much of it as the caller has at hand. May move between tiles.
struct Window {
  Signal<float> x;  // x before the first step becomes x after the last
  Mel mel;
  Signal<const float> noise;  // of the first step, or null
  long noise_stride = 0;      // to that of the next step
  Signal<const float> scale;  // of the noise, or null
};

// Where the rows of a sweep stand.
template <class E>
struct Rings {
  struct OfStep {
    std::vector<Ring<E>> x;  // [N + 1]: the input of every layer, and what the last one leaves
    Ring<float> skip;
    std::vector<E*> padding;           // [N + 1]: -d
    std::vector<Ring<uint8_t>> x8;     // [N + 1], empty where x is not quantized; none where nothing is
    std::vector<uint8_t*> padding8;    // as padding, of x8
    std::vector<float*> step_row;      // [N]
    std::vector<int32_t*> step_row8;   // [N], null where x is not quantized
    std::vector<float*> residual_row;  // [N]
  };
  std::vector<OfStep> steps;
  // [N]; without a mel each is a single row. Where the layer's input is quantized, bytes.
  std::vector<Ring<E>> conditioner;
  std::vector<Ring<int8_t>> conditioner8;
  Ring<E> upsampled;
  Ring<uint8_t> upsampled8;  // instead, where anything is quantized
  std::vector<E*> scratch;   // per thread
  std::vector<uint8_t*> scratch8;
  size_t bytes = 0;

  Rings(const Network<E>& network, size_t steps, long length, long tile, int threads, Arena arena = Arena());
};

template <class E>
class Sweep {
 public:
  // Tiles have up to `rows` per thread, a multiple of kUnit. The length is that of the audio, or kUnknown. Without a
  // mel the conditioner is one row per layer, for ever: conditioner_rows [N][2C], the dilated convolutions' biases
  // included, or null for these biases alone.
  Sweep(std::shared_ptr<const Network<E>> network, std::vector<Step> steps, long length, int threads, long rows,
        const float* conditioner_rows = nullptr);
  ~Sweep();
  Sweep(const Sweep&) = delete;

  // Before the first tile, and whenever what is at hand has moved.
  void bind(const Window& window) { window_ = window; }

  // Step `step` takes in times [begin, begin + rows), rows a multiple of kUnit up to tile(): all layers advance, and x
  // is final for times [begin - reach, begin - reach + rows). Tiles come in order, step by step from the first within
  // each tile, step s at begin - s * reach. Within the audio, everything they need must be at hand.
  void advance(int step, long begin, long rows);

  // The audio's length becomes known. No tile has gone past it.
  void end(long length);

  const Network<E>& network() const { return *network_; }
  const Window& window() const { return window_; }
  int steps() const { return static_cast<int>(steps_.size()); }
  bool adds_noise(int step) const { return steps_[static_cast<size_t>(step)].sigma != 0.0f; }
  long length() const { return length_; }
  long tile() const { return rows_ * team_.size(); }
  long taken(int step) const { return taken_[static_cast<size_t>(step)]; }  // times before this are in
  size_t bytes() const { return memory_.bytes(); }

 private:
  void fill(const float* conditioner_rows);
  bool shared_upsampler() const { return network_->upsamplers.size() == 1; }
  void work(int step, long begin, long count, int rank);
  void condition(size_t layer, Rows rows);
  void upsample(size_t upsampler, Rows rows);
  template <class T>
  Edges<T> edges(const std::vector<T*>& padding, size_t layer) const;

  std::shared_ptr<const Network<E>> network_;
  const std::vector<Step> steps_;
  long length_;
  const long rows_;
  Window window_;
  Team team_;
  Buffer memory_;
  Rings<E> rings_;
  std::vector<long> taken_;  // per step
};

}  // namespace diffwave
