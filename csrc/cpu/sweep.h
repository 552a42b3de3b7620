// One utterance on its way through up to a handful of denoising steps at once. Time advances in tiles: layer i of
// step s is delayed by the dilations before it, so every row it needs is ready and each is computed once. What is
// kept is history, 2 * dilation rows per layer and step: the utterance's length does not enter.
#pragma once

#include <memory>
#include <vector>

#include "network.h"
#include "team.h"
#include "upsample.h"

namespace diffwave {

struct Step {
  std::vector<float> d;  // [N][C]: the step's bias for every layer
  float a, b, sigma;     // x <- a x + b eps + sigma noise
  bool clamp;
  Noise noise;
};

template <class E>
class Sweep {
 public:
  // x [length] is updated in place: it starts as x before the first step and ends as x after the last. `rows` per
  // thread make a tile.
  Sweep(std::shared_ptr<const Network<E>> network, long length, Mel mel, std::vector<Step> steps, float* x, int threads,
        long rows);
  ~Sweep();
  Sweep(const Sweep&) = delete;

  // Step `step` takes in times [begin, begin + tile()): all layers advance by one tile, and x is final for times
  // [begin - reach, begin - reach + tile()). Tiles come in order, step by step from the first within each tile,
  // step s at begin - s * reach.
  void advance(int step, long begin);

  long tile() const { return rows_ * team_.size(); }
  size_t bytes() const { return memory_.bytes(); }

 private:
  struct State {             // of one step
    std::vector<Ring<E>> x;  // [N + 1]: the input of every layer, and what the last one leaves
    Ring<float> skip;
    std::vector<E*> padding;           // [N + 1]: -d
    std::vector<float*> step_row;      // [N]
    std::vector<float*> residual_row;  // [N]
  };

  void lay_out(Arena arena, size_t* bytes);
  void fill();
  bool shared_upsampler() const { return network_->upsamplers.size() == 1; }
  void work(int step, long begin, int rank);
  Edges<E> edges(const State& state, size_t layer) const;

  std::shared_ptr<const Network<E>> network_;
  const long length_, rows_;
  const Mel mel_;
  const std::vector<Step> steps_;
  float* const x_;
  Team team_;
  Buffer memory_;
  std::vector<State> states_;
  std::vector<Ring<E>> conditioner_;  // [N]
  Ring<E> upsampled_;
  std::vector<E*> scratch_;  // per thread
};

}  // namespace diffwave
