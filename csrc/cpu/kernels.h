// The operations of the network as one thread runs them over a range of rows, and the table by which a tier
// (an instruction set) offers them. kernels/reference.py is what each must compute.
//
// Layout: channels-last, one row of C channels per sample. Weights are packed (network.cpp) so that a vector runs along
// output channels. Two output halves always travel together as a "panel": kWidth channels of the first half beside
// the same channels of the second (sigmoid | tanh, residual | skip).
#pragma once

#include <cstdint>
#include <vector>

#include "element.h"
#include "gate_table.h"
#include "pairs.h"
#include "ring.h"

// Assemblers that came before these compilers do not know AVX-VNNI.
#if defined(__x86_64__) && (defined(__clang__) ? __clang_major__ >= 12 : __GNUC__ >= 11)
#define DIFFWAVE_AVXVNNI
#endif

namespace diffwave {

// Rows [begin, end) of time, of which only those in [0, length) belong to the audio.
struct Rows {
  long begin, end, length;
};

// Values by absolute time, of which those from `origin` on are at hand; each stands for `repeat` samples.
template <class T>
struct Signal {
  T* data = nullptr;
  long origin = 0;
  long repeat = 1;

  T* at(long t) const { return data + (t / repeat - origin); }
};

// What a ring of layer inputs must hold for the `reach` samples on each side of the audio, which no layer computes: the
// rows inside, reflected, or else `row`, which is -d where the padding is zero, since the network adds the step bias d
// before it pads. Rows before the audio that do not reflect are filled once, beforehand.
template <class E>
struct Edges {
  const E* row;
  long reach;
  bool reflect;
};

// One row of one stage of the upsampler, all bands: the two inputs in time that reach it, times three in bands.
template <class T>
struct UpsampleRow {
  const float *newer, *older;  // [bands], with a zero before and after
  const float* weight;         // [3][2 * stride], from this output's phase on
  long stride;
  float bias;
  int bands;
  T* out;
  long width;   // of out: zero from bands on
  float scale;  // of bytes
};

template <class E>
struct ProjectConditioner {
  int channels, bands;
  Ring<E> mel;          // upsampled mel, rows of mel.width >= bands
  Ring<E> conditioner;  // out: rows of 2C in panel order, scaled for the gate
  const E* weight;      // packed
  const float* bias;    // [2C] in panel order
};

// The same with products of bytes. What leaves are bytes, too: see QuantizedBlock, or, where `conditioner8` is empty,
// rows of E with the bias.
template <class E>
struct QuantizedConditioner {
  int channels, bands;
  Ring<uint8_t> mel;
  Ring<int8_t> conditioner8;
  Ring<E> conditioner;
  const int8_t* weight;     // packed, or
  const int16_t* weight16;  // the same where bytes are multiplied as words, see words_place
  const int32_t* start;     // [2C] in panel order, as are all: the products with kZero, taken off
  const float* scale;       // [2C]: from a sum of products to the units of what leaves
  const float* bias;        // [2C]
};

template <class E>
struct InputProjection {
  int channels;
  Signal<const float> x;
  Ring<E> y;
  const float *weight, *bias;  // [C]
  Edges<E> edges;
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
  const E* dilated;            // packed, 3C inputs, or 4C of a paired block
  const E* projection;         // packed, C inputs, the residual half scaled by sqrt(1/2)
  const float* residual_bias;  // [C], scaled by sqrt(1/2); with d where the residual carries it
  const float* skip_start;     // [C]: where the skip sum starts, in the first layer; else null
  E* scratch;                  // scratch_size(C)
  Edges<E> edges;
  // Conditioner rows come from main memory: those of the next layer, whose rows begin here, are fetched ahead.
  Ring<E> next_conditioner;
  long next_begin;
};

// The layer with products of bytes, of its input and its gated rows; where x8 is empty, with those of ResidualBlock. x
// and y are kept as well: what the residual adds is not quantized. The skip sum's rows hold int32, until the last layer
// makes float32 of them. With x8 the conditioner's rows are bytes, 2^conditioner_shift of the units of the sum of
// products that they are added to; without a mel it is part of dilated_start.
template <class E>
struct QuantizedBlock : ResidualBlock<E> {
  Ring<uint8_t> x8, y8;  // as large as x and y; y8 is empty where the next layer reads y
  Ring<int8_t> conditioner8, next_conditioner8;
  const int32_t* conditioner_shift;         // [2C] in panel order
  const int8_t *dilated8, *projection8;     // packed, or
  const int16_t *dilated16, *projection16;  // the same where bytes are multiplied as words, 4C inputs and C
  const int32_t* dilated_start;             // [2C] in panel order: biases, and the products with kZero taken off
  const float* dilated_scale;               // [2C] in panel order: from a sum of products to the gate's arguments
  const float* projection_scale;            // [C]: from a sum of products to the residual
  const int32_t* residual_start;            // [C]: the products with kZero, taken off
  const int32_t* sum_start;                 // as skip_start
  const float* sum_scale;                   // [C]: from the sum to float32, in the last layer; else null
  float y_scale;                            // of y8
  const GateTable* gate;
  uint8_t* scratch8;  // kScratchRows x C
  Edges<uint8_t> edges8;
};

struct Noise {
  Signal<const float> given;  // or null for normal(seed, step, t)
  Signal<const float> scale;  // or null for 1
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
  Signal<float> x;
  float a, b, sigma;
  bool clamp;
  Noise noise;
};

// No register tile has more rows, no block more tiles.
constexpr long kBlockRows = 96;
// The gated rows of a block, and the register tiles that straddle the audio's two ends.
constexpr long kScratchRows = kBlockRows + 2 * kGuard;

constexpr long kBlockPairs = kBlockRows / 2;
constexpr long kWidest = 16;  // lanes of a vector of float

// A thread's elements: of a paired block, see PairedScratch.
inline size_t scratch_size(int channels) {
  return static_cast<size_t>(std::max(kScratchRows, 6 * kBlockPairs + 3) * channels + 2 * kBlockPairs * 2 * kWidest);
}

template <class E>
struct Operations {
  void (*upsample_strip)(const UpsampleRow<float>&) = nullptr;
  void (*upsample_row)(const UpsampleRow<E>&) = nullptr;
  void (*upsample_row8)(const UpsampleRow<uint8_t>&) = nullptr;
  void (*project_conditioner)(const ProjectConditioner<E>&, Rows) = nullptr;
  void (*quantized_conditioner)(const QuantizedConditioner<E>&, Rows) = nullptr;
  void (*input_projection)(const InputProjection<E>&, Rows) = nullptr;
  void (*residual_block)(const ResidualBlock<E>&, Rows) = nullptr;       // or
  void (*paired_block)(const ResidualBlock<E>&, Rows, Pairs) = nullptr;  // of the rows, those of these pairs
  // A layer in a network of bytes, by rows or by pairs: see Network::paired.
  void (*quantized_block)(const QuantizedBlock<E>&, Rows) = nullptr;
  void (*paired_quantized_block)(const QuantizedBlock<E>&, Rows, Pairs) = nullptr;
  void (*output_head)(const OutputHead&, Rows) = nullptr;
  double (*peak)(long rounds) = nullptr;   // runs multiply-accumulates on registers alone, returns how many MACs
  double (*peak8)(long rounds) = nullptr;  // the same of bytes
  int width = 0;                           // lanes of a vector: the packing follows it
  int zero = 0;                            // what its products of bytes leave in a byte of kZero: all of it or nothing
  bool words = false;                      // whether it multiplies bytes as words
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
