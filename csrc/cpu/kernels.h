// The operations of the network as one thread runs them over a range of rows, and the table by which a tier
// (an instruction set) offers them. kernels/reference.py is what each must compute.
//
// Layout: channels-last, one row of C channels per sample. Weights are packed (pack.h) so that a vector runs along
// output channels. Two output halves always travel together as a "panel": kWidth channels of the first half beside
// the same channels of the second (sigmoid | tanh, residual | skip).
#pragma once

#include <cstdint>
#include <vector>

#include "element.h"
#include "ring.h"

namespace diffwave {

// Rows [begin, end) of time, of which only those in [0, length) belong to the audio.
struct Rows {
  long begin, end, length;
};

// What a ring must hold for times outside the audio, up to `reach` rows away: -d, since the network adds the step
// bias d before it pads with zeros.
template <class E>
struct Padding {
  const E* row;
  long reach;
};

template <class E>
struct ProjectConditioner {
  int channels, bands;
  Ring<E> mel;          // upsampled mel, rows of mel.width >= bands
  Ring<E> conditioner;  // out: rows of 2C in panel order, scaled for the gate
  const E* weight;      // packed
  const float* bias;    // [2C] in panel order
};

template <class E>
struct InputProjection {
  int channels;
  const float* x;  // x[t]
  Ring<E> y;
  const float *weight, *bias;  // [C]
  Padding<E> padding;
};

template <class E>
struct ResidualBlock {
  int channels;
  long dilation;
  Ring<E> x;
  Ring<E> y;
  Ring<float> skip;
  Ring<E> conditioner;
  const float* step_bias;      // [2C] in panel order: the dilated convolution of d
  const E* dilated;            // packed, 3C inputs
  const E* projection;         // packed, C inputs, the residual half scaled by sqrt(1/2)
  const float* residual_bias;  // [C], scaled by sqrt(1/2)
  const float* skip_start;     // [C]: where the skip sum starts, in the first layer; else null
  E* gated;                    // scratch: kBlockRows x C
  Padding<E> padding;
  // Conditioner rows come from main memory: those of the next layer, whose rows begin here, are fetched ahead.
  Ring<E> next_conditioner;
  long next_begin;
};

struct Noise {
  const float* given;  // given[t], or null for normal(seed, step, t)
  uint64_t seed;
  uint32_t step;
};

// eps = head(skip); x[t] = a * x[t] + b * eps + sigma * noise[t]
struct OutputHead {
  int channels;
  Ring<float> skip;
  const float *weight, *bias;  // packed, scaled by sqrt(1/N); [C]
  const float* out_weight;     // [C]
  float out_bias;
  float* x;
  float a, b, sigma;
  bool clamp;
  Noise noise;
};

// No register tile has more rows, no block more tiles.
constexpr long kBlockRows = 96;

template <class E>
struct Operations {
  void (*project_conditioner)(const ProjectConditioner<E>&, Rows) = nullptr;
  void (*input_projection)(const InputProjection<E>&, Rows) = nullptr;
  void (*residual_block)(const ResidualBlock<E>&, Rows) = nullptr;
  void (*output_head)(const OutputHead&, Rows) = nullptr;
  double (*peak)(long rounds) = nullptr;  // runs multiply-accumulates on registers alone, returns how many MACs
  int width = 0;                          // lanes of a vector: the packing follows it
};

struct Tier {
  const char* name;
  bool supported;         // by this processor
  const char* requires_;  // in words
  Operations<float> fp32;
  Operations<Bf16> bf16;  // empty where the tier has no bf16 dot product
};

// All tiers that were compiled for this architecture, slowest first.
const std::vector<Tier>& tiers();

}  // namespace diffwave
