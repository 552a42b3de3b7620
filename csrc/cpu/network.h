// The weights of one network, packed for one tier and precision, and its derived constants.
#pragma once

#include <memory>
#include <vector>

#include "buffer.h"
#include "kernels.h"

namespace diffwave {

// One stage of a mel upsampler. kernels/cpu.py passes all arrays as float32, C-contiguous.
struct UpsampleStage {
  std::vector<float> weight;  // [3][2 * stride]
  float bias;
};

// The parameters of a network with C channels, N layers and M mel bands. Of every 2C channels, the first C are the
// sigmoid half of the gate (or the residual), the second C the tanh half (or the skip).
struct Parameters {
  int channels = 0, layers = 0, bands = 0;                                 // C, N, M; M is 0 without a mel
  std::vector<int> dilations;                                              // [N]
  std::vector<int> strides;                                                // of the upsampler, in time
  std::vector<std::vector<UpsampleStage>> upsamplers;                      // one for all layers, or one per layer
  bool reflect = false;                                                    // padding: reflection instead of zeros
  bool residual_carries_d = false;                                         // x <- (x + d + residual) sqrt(1/2)
  const float *input_weight = nullptr, *input_bias = nullptr;              // [C]
  const float *dilated_weight = nullptr, *dilated_bias = nullptr;          // [N][2C][C][3], [N][2C]
  const float *conditioner_weight = nullptr, *conditioner_bias = nullptr;  // [N][2C][M], [N][2C]
  const float *projection_weight = nullptr, *projection_bias = nullptr;    // [N][2C][C], [N][2C]
  const float *skip_weight = nullptr, *skip_bias = nullptr;                // [C][C], [C]
  const float *out_weight = nullptr, *out_bias = nullptr;                  // [C], [1]
  // int8 only, else null. [N]: the largest representable |x| of a layer's input; 0 in layers that are not quantized,
  // which always include the first.
  const float* ranges = nullptr;
  // int8 with a mel only: the largest representable |value| of the upsampled mel, and [N][2C] that of each channel of
  // the conditioner before the bias.
  float mel_range = 0.0f;
  const float* conditioner_ranges = nullptr;
};

template <class E>
struct Layer {
  int dilation;
  E *dilated = nullptr, *projection = nullptr, *conditioner = nullptr;  // packed; null where int8 replaces them
  float *conditioner_bias, *residual_bias;
  float* tap_sum;  // [2C][C]: the dilated convolution of a constant
};

// The int8 constants of a layer of an int8 network: see QuantizedBlock and QuantizedConditioner. A zero-point
// correction is minus the sum of the products with the zero point; it is part of the initial sums.
struct Int8Layer {
  float scale;  // quantization scale of the input; 0 if the layer is not quantized, and then the conditioner alone is
  bool quantized() const { return scale > 0.0f; }
  int8_t *dilated, *projection, *conditioner;  // packed; or
  int16_t *dilated16, *projection16, *conditioner16;
  // [2C] in panel order: from a sum of products to the gate's exponents; the same to the gate's arguments; [C].
  float *dilated_scale, *gate_scale, *projection_scale;
  // Zero-point corrections: [2C] in panel order, [C], [C] (zero if not quantized), [2C] in panel order.
  int32_t *dilated_correction, *residual_correction, *skip_correction, *conditioner_correction;
  int32_t* conditioner_shift;                   // [2C] in panel order
  float *conditioner_scale, *conditioner_bias;  // [2C] in panel order
};

template <class E>
class Network {
 public:
  Network(const Parameters& parameters, const Operations<E>& operations);

  // The dilated convolution of the step bias d [C]: a row [2C] in panel order, scaled for the gate.
  void step_row(int layer, const float* d, float* row) const;

  // Int8 variant: the initial int32 sums [2C] in panel order. `constant` [2C], scaled like step_row, is the bias, or
  // the whole conditioner if it is the same at every sample.
  void quantized_step_row(int layer, const float* d, const float* constant, int32_t* row) const;

  // The residual bias [C] at a step with the step bias d [C].
  void residual_row(int layer, const float* d, float* row) const;

  // The output head's weights. The caller adds the signals and the coefficients of the step.
  OutputHead make_output_head() const;

  // The index of channel c of one half in a row of 2C in panel order.
  int panel_index(int half, int c) const {
    return (c / operations.width * 2 + half) * operations.width + c % operations.width;
  }
  // The inputs of a packed conditioner for rows of T, the last of them zero: whole groups, or whole tiles.
  template <class T>
  int conditioner_inputs() const {
    const int unit = std::max(operations.tile_bytes, 4) / static_cast<int>(sizeof(T));
    return (bands + unit - 1) / unit * unit;
  }
  int64_t mel_width() const {
    const int unit = std::max(operations.tile_bytes, 16);
    return (bands + unit - 1) / unit * unit;
  }
  int64_t hop() const {
    int64_t hop = 1;
    for (int stride : strides) hop *= stride;
    return hop;
  }

  bool int8() const { return !int8_layers.empty(); }
  bool quantized(size_t layer) const { return int8() && int8_layers[layer].quantized(); }
  bool shared_upsampler() const { return upsamplers.size() == 1; }

  // Whether a layer's dilated convolution uses Winograd. In int8 networks, layers that are not quantized use it with
  // fp32, and quantized layers use it on tiers that multiply int16.
  bool uses_winograd(size_t layer) const {
    if (!int8()) return operations.winograd_block;
    return operations.winograd_int8_block && (operations.int16_products || !quantized(layer));
  }

  const Operations<E> operations;
  int channels, bands;
  bool reflect, residual_carries_d;
  std::vector<Layer<E>> layers;
  std::vector<Int8Layer> int8_layers;  // [N] in int8 networks, else empty
  std::vector<int> strides;
  std::vector<std::vector<UpsampleStage>> upsamplers;
  float *input_weight, *input_bias, *skip_start, *head_weight, *head_bias, *out_weight, out_bias;
  float mel_scale = 0.0f;        // quantization scale of the upsampled mel, in int8 networks
  int32_t* sum_start = nullptr;  // [C]: initial skip sum, in int8 networks; includes the corrections of all layers
  float* sum_scale = nullptr;    // [C]: unit of the int32 skip sum
  int64_t reach = 0;             // sum of the dilations: half of the receptive field
  mutable BufferPool pool;       // memory of finished sweeps, for reuse

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
