// The sweep: computes several denoising steps of one utterance together, tile by tile in time. Layer i of step s is
// delayed by the dilations before it, so every row it needs is ready, and each row is computed once. The sweep keeps
// only history, 2 * dilation rows per layer and step. Memory does not depend on the utterance's length, which may be
// unknown.
#pragma once

#include <limits>
#include <memory>
#include <vector>

#include "network.h"
#include "residual_block/make_block.h"
#include "team.h"
#include "upsample.h"

namespace diffwave {

// The length of an utterance that has not ended yet.
constexpr int64_t kUnknown = std::numeric_limits<int64_t>::max() / 4;

struct Step {
  std::vector<float> d;  // [N][C]: the step bias of every layer
  float a, b, sigma;     // x <- a x + b eps + sigma noise
  bool clamp;            // whether x is then clamped to [-1, 1]
  uint64_t seed;         // of the noise, unless the window provides it
  uint32_t noise_step;
};

// The signals that a sweep reads and updates, by absolute time. They cover a part of the utterance and may move between
// tiles.
struct Window {
  Signal<float> x;  // before the first step; becomes x after the last
  Mel mel;
  Signal<const float> noise;  // of the first step, or null
  int64_t noise_stride = 0;   // from one step's noise to the next
  Signal<const float> scale;  // of the noise, or null
};

// The memory of a sweep: rings of rows, constants of every step, scratch per thread. Constructed without an arena's
// buffer, it only computes `bytes`.
template <class E>
struct Rings {
  struct OfStep {
    std::vector<LayerRows<E>> layers;  // [N + 1]: the input of every layer, and the output of the last
    Ring<float> skip;
  };
  std::vector<OfStep> steps;
  std::vector<ConditionerRows<E>> conditioner;  // [N]; a single row per layer without a mel
  Ring<E> upsampled;                            // the upsampled mel, or
  Ring<uint8_t> upsampled8;                     // the same in int8 networks
  std::vector<E*> scratch;                      // per thread
  std::vector<uint8_t*> scratch8;               // per thread, in int8 networks
  size_t bytes = 0;

  Rings(const Network<E>& network, size_t steps, int64_t length, int64_t tile, int threads, Arena arena = Arena());
};

template <class E>
class Sweep {
 public:
  // A tile has up to `rows` rows per thread, a multiple of kUnit. `length` is that of the audio, or kUnknown. Without a
  // mel, the conditioner is one constant row per layer: conditioner_rows [N][2C], which include the biases of the
  // dilated convolutions, or null for these biases alone.
  Sweep(std::shared_ptr<const Network<E>> network, std::vector<Step> steps, int64_t length, int threads, int64_t rows,
        const float* conditioner_rows = nullptr);
  ~Sweep();
  Sweep(const Sweep&) = delete;

  // Must be called before the first tile, and after the signals have moved.
  void bind(const Window& window) { window_ = window; }

  // Advances all layers of one step by the input times [begin, begin + rows). `rows` is a multiple of kUnit up to
  // tile(). x becomes final for times [begin - reach, begin - reach + rows). Tiles come in order; within a tile, steps
  // come in order from the first, step s at begin - s * reach. The window must hold everything that lies in the audio
  // and is needed.
  void advance(int step, int64_t begin, int64_t rows);

  // Sets the audio's length, once, when it becomes known. No tile may have passed it.
  void end(int64_t length);

  const Network<E>& network() const { return *network_; }
  const Window& window() const { return window_; }
  int steps() const { return static_cast<int>(steps_.size()); }
  bool adds_noise(int step) const { return steps_[static_cast<size_t>(step)].sigma != 0.0f; }
  int64_t length() const { return length_; }
  int64_t tile() const { return rows_ * team_.size(); }
  int64_t consumed(int step) const { return consumed_[static_cast<size_t>(step)]; }  // input times before this are done
  size_t bytes() const { return memory_.bytes(); }

 private:
  void fill_constants(const float* conditioner_rows);
  void fill_layer(size_t step, size_t layer, const float* conditioner_row);
  void work(int step, int64_t begin, int64_t count, int rank);
  void upsample(size_t upsampler, Rows rows);
  void project_conditioner(size_t layer, Rows rows);
  void project_input(int step, Rows rows);
  void run_layer(int step, size_t layer, const Share& share);
  void run_output_head(int step, Rows rows);

  std::shared_ptr<const Network<E>> network_;
  const std::vector<Step> steps_;
  int64_t length_;
  const int64_t rows_;
  Window window_;
  Team team_;
  Buffer memory_;
  Rings<E> rings_;
  std::vector<int64_t> consumed_;  // per step
};

}  // namespace diffwave
