// The argument structs of every kernel and the table of kernels of a tier (an instruction set). Each kernel runs on one
// thread over a range of rows. kernels/reference.py specifies the result of each operation.
//
// Layout: channels-last, one row of C channels per sample. Weights are packed (network.cpp) so that a vector runs along
// output channels. A "panel" holds kWidth channels of the first output half next to the same channels of the second
// half: sigmoid | tanh for the dilated convolution, residual | skip for the projection. A row of 2C values "in panel
// order" is the sequence of its panels.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "element.h"
#include "residual_block/gate_table.h"
#include "residual_block/winograd_pairs.h"
#include "ring.h"

// Older compilers come with assemblers that lack AVX-VNNI.
#if defined(__x86_64__) && (defined(__clang__) ? __clang_major__ >= 12 : __GNUC__ >= 11)
#define DIFFWAVE_AVXVNNI
#endif

// On other systems a program asks for the tile registers in another way.
#if defined(DIFFWAVE_AVXVNNI) && defined(__linux__)
#define DIFFWAVE_AMX
#endif

namespace diffwave {

// Rows [begin, end) of time. Only the rows in [0, length) belong to the audio.
struct Rows {
  int64_t begin, end, length;
};

// Values by absolute time. The buffer starts at value `origin`; each value covers `repeat` samples.
template <class T>
struct Signal {
  T* data = nullptr;
  int64_t origin = 0;
  int64_t repeat = 1;

  T* at(int64_t t) const { return data + (t / repeat - origin); }
};

// The padding of a layer's input: `reach` rows on each side of the audio, which no layer computes. They hold the
// reflected audio, or copies of `row`. For zero padding, `row` is -d: the network adds the step bias d before it pads,
// while the kernels add the dilated convolution of d as a constant row (Network::step_row). Without reflection, the
// rows before the audio are filled once, in advance.
template <class E>
struct Edges {
  const E* row;
  int64_t reach;
  bool reflect;
};

// One output row of one upsampler stage, all bands. Two input rows reach each output, with three taps over the bands.
template <class T>
struct UpsampleRow {
  const float *newer, *older;  // [bands], with a zero before and after
  const float* weight;         // [3][2 * stride], starting at this output's phase
  int64_t stride;
  float bias;
  int bands;
  T* out;         // [width]
  int64_t width;  // columns from `bands` on are set to zero
  float scale;    // quantization scale of uint8 output; unused for other types
};

// conditioner = weight * mel + bias, a 1x1 convolution from the upsampled mel to 2C channels.
template <class E>
struct ProjectConditioner {
  int channels, bands;
  Ring<E> mel;          // rows of mel.width >= bands
  Ring<E> conditioner;  // output: rows of 2C in panel order, scaled for the gate
  const E* weight;      // packed
  const float* bias;    // [2C] in panel order
};

// Int8 variant. The output is int8 in the units that QuantizedBlock describes; where `conditioner8` is empty, it is
// rows of E with the bias. All arrays of 2C are in panel order.
template <class E>
struct QuantizedConditioner {
  int channels, bands;
  Ring<uint8_t> mel;
  Ring<int8_t> conditioner8;
  Ring<E> conditioner;
  const int8_t* weight;     // packed; or
  const int16_t* weight16;  // packed for tiers that multiply int16, see int16_order
  const int32_t* start;     // [2C]: initial sums, the zero-point correction
  const float* scale;       // [2C]: from a sum of products to the unit of the output
  const float* bias;        // [2C]
};

// y = relu(weight * x + bias): one sample becomes C channels.
template <class E>
struct InputProjection {
  int channels;
  Signal<const float> x;
  Ring<E> y;
  const float *weight, *bias;  // [C]
  Edges<E> edges;
};

constexpr float kRootHalf = 0.70710678f;  // sqrt(1/2), of the residual connection

// One residual layer:
//   s = dilated(x + d) + conditioner, gated = tanh(s_tanh) * sigmoid(s_sigmoid), [residual | skip] = projection(gated)
//   y = (x + residual) * sqrt(1/2), skip sum += skip
template <class E>
struct ResidualBlock {
  int channels;
  int64_t dilation;
  Ring<E> x;
  Ring<E> y;
  Ring<float> skip;
  Ring<E> conditioner;
  const float* step_bias;      // [2C] in panel order: the dilated convolution of d
  const E* dilated;            // packed: 3C inputs, or 4C for Winograd
  const E* projection;         // packed: C inputs; the residual half is scaled by sqrt(1/2)
  const float* residual_bias;  // [C], scaled by sqrt(1/2); includes d where the residual carries it
  const float* skip_start;     // [C]: initial skip sum, in the first layer; null in the others
  E* scratch;                  // scratch_size(C)
  Edges<E> edges;
  // Conditioner rows come from main memory. The kernel prefetches those of the next layer, which start at next_begin.
  Ring<E> next_conditioner;
  int64_t next_begin;
};

// Int8 variant: the layer's input and gated rows are uint8, the weights int8. Where x8 is empty, the layer is not
// quantized and computes like ResidualBlock. x and y exist in every case: the residual connection is not quantized.
// Skip rows hold int32 until the last layer converts them to float32. In a layer with x8, conditioner rows are int8 in
// units of 2^conditioner_shift times the unit of the dilated convolution's int32 sums. Without a mel, the conditioner
// is part of dilated_start.
template <class E>
struct QuantizedBlock : ResidualBlock<E> {
  Ring<uint8_t> x8, y8;  // same shapes as x and y; y8 is empty where the next layer is not quantized
  Ring<int8_t> conditioner8, next_conditioner8;
  const int32_t* conditioner_shift;         // [2C] in panel order
  const int8_t *dilated8, *projection8;     // packed; or
  const int16_t *dilated16, *projection16;  // packed for tiers that multiply int16: 4C inputs (Winograd) and C inputs
  const int32_t* dilated_start;             // [2C] in panel order: initial sums, biases and zero-point correction
  const float* gate_scale;                  // [2C] in panel order: from a sum of products to the gate's arguments
  const float* projection_scale;            // [C]: from a sum of products to the residual
  const int32_t* residual_start;            // [C]: initial sums, the zero-point correction
  const int32_t* sum_start;                 // [C]: like skip_start
  const float* sum_scale;                   // [C]: from the skip sum to float32, in the last layer; null in the others
  float y_scale;                            // quantization scale of y8
  const GateTable* gate;
  uint8_t* scratch8;  // kScratchRows x C
  Edges<uint8_t> edges8;
};

struct Noise {
  Signal<const float> values;  // or null for normal(seed, step, t)
  Signal<const float> scale;   // or null for 1
  uint64_t seed;
  uint32_t step;
};

// eps = head(skip); x[t] = a * x[t] + b * eps + sigma * noise[t], then clamped to [-1, 1] if `clamp`
struct OutputHead {
  int channels;
  Ring<float> skip;
  const float *weight, *bias;  // packed and scaled by sqrt(1/N); [C]
  const float* out_weight;     // [C]
  float out_bias;
  Signal<float> x;
  float a, b, sigma;
  bool clamp;
  Noise noise;
};

// Every register tile divides this number of rows. Threads share a tile in units of it.
constexpr int64_t kUnit = 12;

// Rows that pass through the dilated convolution and then the projection together: a multiple of every register tile.
constexpr int64_t kBlockRows = 96;
// The gated rows of a block, and one register tile for each end of the audio.
constexpr int64_t kScratchRows = kBlockRows + 2 * kGuard;

constexpr int64_t kBlockPairs = kBlockRows / 2;
constexpr int64_t kMaxLanes = 16;  // float lanes of the widest vector

// Elements of scratch per thread. The Winograd block needs more than the direct one: see WinogradScratch.
inline size_t scratch_size(int channels) {
  return static_cast<size_t>(std::max(kScratchRows, 6 * kBlockPairs + 3) * channels + 2 * kBlockPairs * 2 * kMaxLanes);
}

// The kernels of one tier in one precision. Null where the precision uses another kernel.
template <class E>
struct Operations {
  void (*upsample_strip)(const UpsampleRow<float>&) = nullptr;
  void (*upsample_row)(const UpsampleRow<E>&) = nullptr;
  void (*upsample_row8)(const UpsampleRow<uint8_t>&) = nullptr;
  void (*project_conditioner)(const ProjectConditioner<E>&, Rows) = nullptr;
  void (*quantized_conditioner)(const QuantizedConditioner<E>&, Rows) = nullptr;
  void (*input_projection)(const InputProjection<E>&, Rows) = nullptr;
  // A residual layer, either direct or by Winograd: see Network::uses_winograd. Winograd computes those of the rows
  // that belong to the given pairs.
  void (*direct_block)(const ResidualBlock<E>&, Rows) = nullptr;
  void (*winograd_block)(const ResidualBlock<E>&, Rows, PairRange) = nullptr;
  // The same for a layer of an int8 network, quantized or not.
  void (*direct_int8_block)(const QuantizedBlock<E>&, Rows) = nullptr;
  void (*winograd_int8_block)(const QuantizedBlock<E>&, Rows, PairRange) = nullptr;
  void (*output_head)(const OutputHead&, Rows) = nullptr;
  // Multiply-accumulates on registers alone, to measure the peak. Returns the number of MACs.
  double (*peak)(int64_t rounds) = nullptr;
  double (*peak8)(int64_t rounds) = nullptr;  // int8
  int width = 0;                              // float lanes of a vector; determines the packing
  int zero_point = 0;           // zero point of the uint8 operand in this tier's int8 dot product: kZeroPoint or 0
  bool int16_products = false;  // whether int8 is multiplied as int16
  int tile_bytes = 0;           // of a row of a tile register; 0 without
};

struct Tier {
  const char* name;
  bool supported;           // by this processor
  const char* requires_;    // shown to the user
  Operations<float> fp32;   // empty where the tier is for other precisions
  Operations<Bf16> bf16;    // empty where the tier has no bf16 dot product
  bool (*ask)() = nullptr;  // asks the system for the registers before their first use; null if nothing is to be asked
};

// All tiers compiled for this architecture, slowest first.
const std::vector<Tier>& tiers();

}  // namespace diffwave
