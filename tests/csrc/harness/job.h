// The input of a test case: a random network and an utterance. step_pipeline.h defines how it is computed.
#pragma once

#include <deque>
#include <memory>
#include <string>

#include "cpu/sweep.h"
#include "random.h"

namespace harness {

using diffwave::Network;
using diffwave::Operations;
using diffwave::Step;

// Random weights for which activations stay near 1. The network copies them when it is constructed.
struct Model {
  diffwave::Parameters p;
  std::deque<Floats> arrays;

  Model(Random& random, bool with_mel);

 private:
  const float* add(Random& random, long count, double variance) {
    return arrays.emplace_back(random.values(static_cast<size_t>(count), variance)).data();
  }
  // Zeroes the channels from `real` on, as kernels/cpu.py pads them.
  void pad(long real);
};

inline void Model::pad(long real) {
  const long C = p.channels, N = p.layers;
  // Of every block of C channels with `width` values each, the last ones.
  const auto zero = [&](const float* weights, long blocks, long width) {
    for (long block = 0; weights && block < blocks; ++block)
      std::fill(const_cast<float*>(weights) + (block * C + real) * width,
                const_cast<float*>(weights) + (block + 1) * C * width, 0.0f);
  };
  for (const float* weights : {p.input_weight, p.input_bias, p.skip_bias, p.out_weight}) zero(weights, 1, 1);
  for (const float* weights : {p.dilated_bias, p.projection_bias, p.conditioner_bias, p.conditioner_ranges})
    zero(weights, 2 * N, 1);
  zero(p.conditioner_weight, 2 * N, p.bands);
  zero(p.dilated_weight, 2 * N, 3 * C);
  zero(p.dilated_weight, 2 * N * C, 3);
  zero(p.projection_weight, 2 * N, C);
  zero(p.projection_weight, 2 * N * C, 1);
  zero(p.skip_weight, 1, C);
  zero(p.skip_weight, C, 1);
}

inline Model::Model(Random& random, bool with_mel) {
  p.channels =
      static_cast<int>(random.chance(1) ? 128 : random.pick({16, 16, 16, 16, 16, 16, 16, 16, 16, 32, 32, 32, 48, 64}));
  p.layers = static_cast<int>(random.between(1, p.channels >= 64 ? 2 : random.chance(30) ? 7 : 3));
  const long cycle = random.between(1, random.chance(30) ? 7 : 4);
  for (long i = 0; i < p.layers; ++i) p.dilations.push_back(1 << (i % cycle));
  p.reflect = random.chance(50);
  p.residual_carries_d = random.chance(50);
  const long C = p.channels, N = p.layers;
  p.input_weight = add(random, C, 2.0);
  p.input_bias = add(random, C, 0.01);
  p.dilated_weight = add(random, N * 6 * C * C, 0.33 / static_cast<double>(C));
  p.dilated_bias = add(random, N * 2 * C, 0.01);
  p.projection_weight = add(random, N * 2 * C * C, 8.0 / static_cast<double>(C));
  p.projection_bias = add(random, N * 2 * C, 0.01);
  p.skip_weight = add(random, C * C, 2.0 / static_cast<double>(C));
  p.skip_bias = add(random, C, 0.01);
  p.out_weight = add(random, C, 1.0 / static_cast<double>(C));
  p.out_bias = add(random, 1, 0.01);
  if (random.chance(30)) {
    Floats& ranges = arrays.emplace_back(static_cast<size_t>(N), 0.0f);
    for (size_t i = 1; i < ranges.size(); ++i) ranges[i] = random.chance(70) ? 3.0f : 0.0f;
    p.ranges = ranges.data();
  }
  const long real = random.chance(15) ? random.between(1, C - 1) : C;
  if (!with_mel) {
    pad(real);
    return;
  }
  p.bands = static_cast<int>(random.spread(1, 100));
  if (p.ranges) {
    p.mel_range = 2.0f;
    p.conditioner_ranges = arrays.emplace_back(static_cast<size_t>(N * 2 * C), 3.0f).data();
  }
  p.conditioner_weight = add(random, N * 2 * C * p.bands, 1.0 / p.bands);
  p.conditioner_bias = add(random, N * 2 * C, 0.01);
  for (long hop = 1, count = random.between(1, 3); count > 0; --count) {
    p.strides.push_back(static_cast<int>(random.between(1, std::min(64 / hop, random.chance(80) ? 6L : 64L))));
    hop *= p.strides.back();
  }
  if (random.chance(10)) {  // hops of 300, 275 and 441, whose strides are odd
    const int recipes[4][2] = {{15, 20}, {11, 25}, {21, 21}, {10, 30}};
    const int* recipe = recipes[random.below(4)];
    p.strides.assign(recipe, recipe + 2);
  }
  p.upsamplers.resize(random.chance(50) ? 1 : static_cast<size_t>(N));
  for (auto& upsampler : p.upsamplers)
    for (int stride : p.strides) upsampler.push_back({random.values(static_cast<size_t>(6 * stride), 0.33), 0.1f});
  pad(real);
}

template <class E>
struct Job {
  std::shared_ptr<const Network<E>> network;
  std::vector<Step> steps;
  long length = 0, frames = 0, repeat = 1;
  Floats x, mel;            // [L], [M][frames]
  Floats noise;             // [S or S - 1][L], or empty
  Floats scale;             // one value per `repeat` samples, or empty
  Floats conditioner_rows;  // [N][2C] of a label, or empty

  Job(Random& random, const Operations<E>& operations, bool with_mel);
  Job(Random& random, const Operations<E>& operations) : Job(random, operations, random.chance(70)) {}

  bool has_mel() const { return network->bands > 0; }
  std::string description() const;

 private:
  void draw_steps(Random& random);
  void draw_length(Random& random);
};

template <class E>
Job<E>::Job(Random& random, const Operations<E>& operations, bool with_mel) {
  {
    const Model model(random, with_mel);
    network = std::make_shared<Network<E>>(model.p, operations);
  }
  draw_steps(random);
  draw_length(random);
  const size_t L = static_cast<size_t>(length), S = steps.size();
  x = random.values(L);
  mel = random.values(static_cast<size_t>(network->bands * frames));
  if (random.chance(40)) noise = random.values((steps.back().sigma == 0.0f ? S - 1 : S) * L);
  if (random.chance(40)) {
    repeat = has_mel() && random.chance(70) ? network->hop() : random.spread(1, 64);
    scale = random.values((L + static_cast<size_t>(repeat) - 1) / static_cast<size_t>(repeat));
  }
  if (!has_mel() && random.chance(50))
    conditioner_rows = random.values(network->layers.size() * 2 * static_cast<size_t>(network->channels));
}

template <class E>
void Job<E>::draw_steps(Random& random) {
  const size_t N = network->layers.size(), C = static_cast<size_t>(network->channels);
  const long macs = static_cast<long>(N * 8 * C * C), most = random.chance(3) ? 6 : std::clamp(30'000 / macs, 1L, 6L);
  const long count = random.between(1, most);
  const bool clamp = random.chance(50);
  const uint64_t seed = random.next();
  const uint32_t first = static_cast<uint32_t>(random.below(1000));
  for (long s = 0; s < count; ++s) {
    const float sigma = s + 1 == count || random.chance(10) ? 0.0f : 0.3f;
    steps.push_back({random.values(N * C, 0.25), 0.9f, -0.4f, sigma, clamp, seed, first + static_cast<uint32_t>(s)});
  }
  if (random.chance(20)) steps.back().sigma = 0.2f;
}

// Chooses a length for which a case takes about a millisecond, occasionally ten.
template <class E>
void Job<E>::draw_length(Random& random) {
  const long C = network->channels, N = static_cast<long>(network->layers.size()), S = static_cast<long>(steps.size());
  const long macs = N * (8 * C * C * S + 2 * C * network->bands);
  const long most = std::clamp((random.chance(4) ? 6'000'000 : 600'000) / macs, 12L, 1500L);
  length = random.chance(50) ? random.spread(1, most) : random.between(1, most);
  if (network->reflect)
    for (const auto& layer : network->layers) length = std::max(length, layer.dilation + random.between(1, 9));
  if (!has_mel()) return;
  frames = (length + network->hop() - 1) / network->hop();
  length = frames * network->hop();
}

template <class E>
std::string Job<E>::description() const {
  const auto number = [](auto value) { return std::to_string(value); };
  std::string text = number(network->channels) + " channels, " + number(network->layers.size()) + " layers, reach " +
                     number(network->reach) + (network->reflect ? ", reflecting" : "") +
                     (network->residual_carries_d ? ", residual carries d" : "");
  if (has_mel()) {
    text += "; " + number(frames) + " frames of " + number(network->bands) + " bands, strides";
    for (int stride : network->strides) text += " " + number(stride);
    text += network->upsamplers.size() == 1 ? " shared" : " for each layer";
  }
  text += "; " + number(length) + " samples, " + number(steps.size()) + " steps";
  if (!noise.empty()) text += ", noise provided";
  if (!scale.empty()) text += ", scaled by " + number(repeat);
  if (!conditioner_rows.empty()) text += ", a label";
  return text;
}

}  // namespace harness
