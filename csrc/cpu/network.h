// The weights of one network, packed for one tier and precision.
#pragma once

#include <memory>
#include <vector>

#include "buffer.h"
#include "kernels.h"

namespace diffwave {

// As kernels/cpu.py hands them over: float32, C-contiguous. Of every 2C channels the first C are the sigmoid half of
// the gate (or the residual), the second the tanh half (or the skip).
struct UpsampleStage {
  std::vector<float> weight;  // [3][2 * stride]
  float bias;
};

struct Parameters {
  int channels = 0, layers = 0, bands = 0;                                 // C, N, M; no bands: no mel
  std::vector<int> dilations;                                              // [N]
  std::vector<int> strides;                                                // of the upsampler, in time
  std::vector<std::vector<UpsampleStage>> upsamplers;                      // one for all layers, or one each
  bool reflect = false;                                                    // how a dilated convolution pads
  bool residual_carries_d = false;                                         // x <- (x + d + res) sqrt(1/2)
  const float *input_weight = nullptr, *input_bias = nullptr;              // [C]
  const float *dilated_weight = nullptr, *dilated_bias = nullptr;          // [N][2C][C][3], [N][2C]
  const float *conditioner_weight = nullptr, *conditioner_bias = nullptr;  // [N][2C][M], [N][2C]
  const float *projection_weight = nullptr, *projection_bias = nullptr;    // [N][2C][C], [N][2C]
  const float *skip_weight = nullptr, *skip_bias = nullptr;                // [C][C], [C]
  const float *out_weight = nullptr, *out_bias = nullptr;                  // [C], [1]
  // To compute with bytes: [N] the largest |x| that a layer's input keeps, 0 where the input stays as it is (always in
  // the first layer); else null.
  const float* ranges = nullptr;
  // With them, for a network with a mel: the largest |value| that the upsampled mel keeps, and [N][2C] the largest that
  // a channel of the conditioner keeps before the bias.
  float mel_range = 0.0f;
  const float* conditioner_ranges = nullptr;
};

template <class E>
struct Layer {
  int dilation;
  E *dilated = nullptr, *projection = nullptr, *conditioner = nullptr;  // packed; what bytes stand in for is not there
  float *conditioner_bias, *residual_bias;
  float* tap_sum;  // [2C][C]: the dilated convolution of a constant
};

// What a layer that computes with bytes has beside it: see QuantizedBlock and QuantizedConditioner.
struct QuantizedLayer {
  float scale;  // of the input's bytes; 0 where it is kept as it is, and with it all of the layer but the conditioner
  bool bytes() const { return scale > 0.0f; }
  int8_t *dilated, *projection, *conditioner;  // packed, or
  int16_t *dilated16, *projection16, *conditioner16;
  // [2C] in panel order: from a sum of products to the gate's exponents, and to its arguments; [C].
  float *dilated_scale, *gate_scale, *projection_scale;
  // What the bytes' zero adds to sums of products, taken off. That of the skips of all layers is part of sum_start.
  int32_t *dilated_zero, *residual_zero, *skip_zero;  // [2C] in panel order, [C], [C]
  int32_t *conditioner_zero, *conditioner_shift;
  float *conditioner_scale, *conditioner_bias;
};

template <class E>
class Network {
 public:
  Network(const Parameters& parameters, const Operations<E>& operations);

  // The dilated convolution of the step bias d [C], as a row [2C] in panel order, scaled for the gate.
  void step_row(int layer, const float* d, float* row) const;

  // The same with the products of bytes, in their units: where the sums [2C] in panel order start. `constant`, the bias
  // or all of the conditioner that is the same at every sample, is a row as step_row's.
  void quantized_step_row(int layer, const float* d, const float* constant, int32_t* row) const;

  // The residual bias [C] at a step with the bias d [C].
  void residual_row(int layer, const float* d, float* row) const;

  // Where channel c of one half stands in a row of 2C in panel order.
  int panel_index(int half, int c) const {
    return (c / operations.width * 2 + half) * operations.width + c % operations.width;
  }
  long mel_width() const { return (bands + 15) / 16 * 16; }
  long hop() const {
    long hop = 1;
    for (int stride : strides) hop *= stride;
    return hop;
  }

  // Whether its layers go through paired_block, or one of bytes through paired_quantized_block.
  bool paired() const { return operations.paired_block && quantized.empty(); }
  bool paired(const QuantizedLayer& layer) const {
    return operations.paired_quantized_block && (operations.words || !layer.bytes());
  }

  const Operations<E> operations;
  int channels, bands;
  bool reflect, residual_carries_d;
  std::vector<Layer<E>> layers;
  std::vector<QuantizedLayer> quantized;  // [N], or none
  std::vector<int> strides;
  std::vector<std::vector<UpsampleStage>> upsamplers;
  float *input_weight, *input_bias, *skip_start, *head_weight, *head_bias, *out_weight, out_bias;
  float mel_scale = 0.0f;        // of the upsampled mel's bytes, where quantized
  int32_t* sum_start = nullptr;  // [C], where quantized
  float* sum_scale = nullptr;    // [C]
  long reach = 0;                // the sum of the dilations
  mutable Spare spare;           // of finished sweeps, for the next ones

 private:
  void lay_out(Arena arena, size_t* bytes, int layer_count);
  void pack(const Parameters& parameters);
  void scale_sum(const Parameters& parameters);
  void quantize(const Parameters& parameters);
  void quantize_layer(const Parameters& parameters, int layer);
  void quantize_conditioner(const Parameters& parameters, int layer);
  Buffer memory_;
};

// sigmoid(g) = 1 / (1 + 2^(g * kGateScale[0])), tanh(f) from 2^(f * kGateScale[1])
constexpr float kGateScale[2] = {kGateExponent, 2.0f * kGateExponent};

}  // namespace diffwave
