// Packs and quantizes the weights of a network for one tier.
#include "network.h"

#include <algorithm>
#include <cmath>

namespace diffwave {
namespace {

constexpr int kMaxShift = 20;  // of the conditioner, so that no sum of products overflows

// Packs weight(half, c, k) as [panel][k / group][half][lane][group]. The caller returns zero for inputs past the last.
template <class E, class Weight>
void pack_panels(E* out, int channels, int width, int inputs, int halves, Weight weight) {
  const int group = kGroup<E>;
  for (int panel = 0; panel < channels / width; ++panel)
    for (int k = 0; k < inputs; k += group)
      for (int half = 0; half < halves; ++half)
        for (int lane = 0; lane < width; ++lane)
          for (int g = 0; g < group; ++g)
            *out++ = from_float<E>(static_cast<float>(weight(half, panel * width + lane, k + g)));
}

// Winograd's transformed weights of products m1 to m4 (winograd.inl), but doubled for m2 and m3.
double product_weight(double first, double second, double third, int64_t product) {
  const double weights[4] = {first, first + third + second, first + third - second, third};
  return weights[product];
}

// Winograd's transformed weights of products m1 to m4.
double product_weight(const float* taps, int64_t product) {
  const double whole = product_weight(taps[0], taps[1], taps[2], product);
  return product == 1 || product == 2 ? whole / 2 : whole;
}

// Rounds and clamps. No trained network reaches the limits.
int32_t to_int32(double value) {
  constexpr double kLimit = 1 << 28;
  return static_cast<int32_t>(std::nearbyint(std::clamp(value, -kLimit, kLimit)));
}

double max_abs(const float* values, int64_t count) {
  double result = 0.0;
  for (int64_t n = 0; n < count; ++n) result = std::max(result, std::abs(static_cast<double>(values[n])));
  return result;
}

// The scale that maps [-limit, limit] to [-127, 127].
double int8_scale(double limit) { return limit > 0.0 ? kInt8Max / limit : 1.0; }

}  // namespace

template <class E>
Network<E>::Network(const Parameters& p, const Operations<E>& ops)
    : operations(ops),
      channels(p.channels),
      bands(p.bands),
      reflect(p.reflect),
      residual_carries_d(p.residual_carries_d),
      strides(p.strides),
      upsamplers(p.upsamplers) {
  layers.resize(static_cast<size_t>(p.layers));
  if (p.ranges) int8_layers.resize(static_cast<size_t>(p.layers));
  for (size_t i = 0; i < int8_layers.size(); ++i)
    int8_layers[i].scale = p.ranges[i] > 0.0f ? kInt8Max / p.ranges[i] : 0.0f;
  mel_scale = p.mel_range > 0.0f ? kInt8Max / p.mel_range : 0.0f;
  size_t bytes = 0;
  lay_out(Arena(), &bytes, p.layers);
  memory_ = Buffer(bytes);
  lay_out(Arena(memory_.data()), &bytes, p.layers);
  for (int i = 0; i < p.layers; ++i) {
    layers[i].dilation = p.dilations[static_cast<size_t>(i)];
    reach += layers[i].dilation;
  }
  if (p.ranges) scale_sum(p);
  pack(p);
  if (p.ranges) quantize(p);
}

template <class E>
void Network<E>::lay_out(Arena arena, size_t* bytes, int layer_count) {
  const size_t C = static_cast<size_t>(channels), M = static_cast<size_t>(conditioner_inputs<E>());
  for (int i = 0; i < layer_count; ++i) {
    Layer<E>& layer = layers[static_cast<size_t>(i)];
    if (!quantized(static_cast<size_t>(i))) {
      layer.dilated = arena.take<E>(2 * C * (operations.winograd_block ? 4 : 3) * C);
      layer.projection = arena.take<E>(2 * C * C);
    }
    if (!int8()) layer.conditioner = arena.take<E>(2 * C * M);
    layer.conditioner_bias = arena.take<float>(2 * C);
    layer.residual_bias = arena.take<float>(C);
    layer.tap_sum = arena.take<float>(2 * C * C);
  }
  for (Int8Layer& layer : int8_layers) {
    const size_t inputs = static_cast<size_t>(conditioner_inputs<uint8_t>());
    layer.skip_correction = arena.take<int32_t>(C);
    if (layer.quantized()) {
      if (operations.int16_products) {
        layer.dilated16 = arena.take<int16_t>(2 * C * 4 * C);
        layer.projection16 = arena.take<int16_t>(2 * C * C);
      } else {
        layer.dilated = arena.take<int8_t>(2 * C * 3 * C);
        layer.projection = arena.take<int8_t>(2 * C * C);
      }
      layer.dilated_correction = arena.take<int32_t>(2 * C);
      layer.dilated_scale = arena.take<float>(2 * C);
      layer.gate_scale = arena.take<float>(2 * C);
      layer.projection_scale = arena.take<float>(C);
      layer.residual_correction = arena.take<int32_t>(C);
    }
    if (!bands) continue;
    if (operations.int16_products)
      layer.conditioner16 = arena.take<int16_t>(2 * C * inputs);
    else
      layer.conditioner = arena.take<int8_t>(2 * C * inputs);
    layer.conditioner_correction = arena.take<int32_t>(2 * C);
    layer.conditioner_shift = arena.take<int32_t>(2 * C);
    layer.conditioner_scale = arena.take<float>(2 * C);
    layer.conditioner_bias = arena.take<float>(2 * C);
  }
  if (int8()) {
    sum_start = arena.take<int32_t>(C);
    sum_scale = arena.take<float>(C);
  }
  input_weight = arena.take<float>(C);
  input_bias = arena.take<float>(C);
  skip_start = arena.take<float>(C);
  head_weight = arena.take<float>(C * C);
  head_bias = arena.take<float>(C);
  out_weight = arena.take<float>(C);
  *bytes = arena.used();
}

template <class E>
void Network<E>::pack(const Parameters& p) {
  const int64_t C = channels, M = bands;
  const int width = operations.width;
  std::vector<double> skip_bias(static_cast<size_t>(C), 0.0);
  for (int64_t i = 0; i < p.layers; ++i) {
    Layer<E>& layer = layers[static_cast<size_t>(i)];
    const float* dilated = p.dilated_weight + i * 2 * C * C * 3;
    const bool winograd = operations.winograd_block;
    if (layer.dilated)
      pack_panels(layer.dilated, channels, width, (winograd ? 4 : 3) * channels, 2, [&](int half, int c, int k) {
        const float* taps = dilated + ((half * C + c) * C + k % C) * 3;
        return kGateScale[half] * (winograd ? product_weight(taps, k / C) : taps[k / C]);
      });
    const float* projection = p.projection_weight + i * 2 * C * C;
    if (layer.projection)
      pack_panels(layer.projection, channels, width, channels, 2, [&](int half, int c, int k) {
        const float weight = projection[(half * C + c) * C + k];
        return half == 0 ? weight * kRootHalf : !int8() ? weight : weight / sum_scale[c];
      });
    if (M && layer.conditioner) {
      const float* conditioner = p.conditioner_weight + i * 2 * C * M;
      pack_panels(layer.conditioner, channels, width, conditioner_inputs<E>(), 2, [&](int half, int c, int k) {
        return k < M ? kGateScale[half] * conditioner[(half * C + c) * M + k] : 0.0f;
      });
    }
    for (int half = 0; half < 2; ++half)
      for (int c = 0; c < C; ++c) {
        const int64_t row = half * C + c;
        const float bias = p.dilated_bias[i * 2 * C + row] + (M ? p.conditioner_bias[i * 2 * C + row] : 0.0f);
        layer.conditioner_bias[panel_index(half, c)] = kGateScale[half] * bias;
        for (int64_t k = 0; k < C; ++k) {
          const float* tap = dilated + (row * C + k) * 3;
          layer.tap_sum[row * C + k] = tap[0] + tap[1] + tap[2];
        }
      }
    for (int c = 0; c < C; ++c) {
      layer.residual_bias[c] = kRootHalf * p.projection_bias[i * 2 * C + c];
      skip_bias[static_cast<size_t>(c)] += p.projection_bias[i * 2 * C + C + c];
    }
  }
  const float scale = static_cast<float>(std::sqrt(1.0 / p.layers));
  pack_panels(head_weight, channels, width, channels, 1,
              [&](int, int c, int k) { return scale * p.skip_weight[c * C + k]; });
  std::copy_n(p.input_weight, C, input_weight);
  std::copy_n(p.input_bias, C, input_bias);
  std::copy_n(skip_bias.begin(), C, skip_start);
  std::copy_n(p.skip_bias, C, head_bias);
  std::copy_n(p.out_weight, C, out_weight);
  out_bias = p.out_bias[0];
}

// The unit of the skip sum, per channel for all layers: one int8 weight step times one step of the gated rows (1/127).
template <class E>
void Network<E>::scale_sum(const Parameters& p) {
  const int64_t C = channels;
  for (int64_t c = 0; c < C; ++c) {
    double limit = 0.0;
    for (int64_t i = 0; i < p.layers; ++i)
      limit = std::max(limit, max_abs(p.projection_weight + ((i * 2 + 1) * C + c) * C, C));
    sum_scale[c] = static_cast<float>(1.0 / (int8_scale(limit) * kInt8Max));
  }
}

template <class E>
void Network<E>::quantize(const Parameters& p) {
  const int64_t C = channels, N = p.layers;
  std::vector<double> start(static_cast<size_t>(C), 0.0);
  for (int64_t i = 0; i < N; ++i) {
    Int8Layer& layer = int8_layers[static_cast<size_t>(i)];
    std::fill_n(layer.skip_correction, C, 0);
    if (layer.quantized()) quantize_layer(p, static_cast<int>(i));
    if (bands) quantize_conditioner(p, static_cast<int>(i));
    for (int64_t c = 0; c < C; ++c) start[static_cast<size_t>(c)] += layer.skip_correction[c];
  }
  for (int64_t c = 0; c < C; ++c)
    sum_start[c] = to_int32(start[static_cast<size_t>(c)] + skip_start[c] / static_cast<double>(sum_scale[c]));
}

// Quantizes the weights with a scale per output channel. The skip half has one scale per channel for all layers, which
// determines the unit of their sum.
template <class E>
void Network<E>::quantize_layer(const Parameters& p, int i) {
  const int64_t C = channels;
  Int8Layer& layer = int8_layers[static_cast<size_t>(i)];
  const float* dilated = p.dilated_weight + i * 2 * C * C * 3;
  const float* projection = p.projection_weight + i * 2 * C * C;
  std::vector<double> dilated_scale(static_cast<size_t>(2 * C)), projection_scale(static_cast<size_t>(2 * C));
  for (int64_t row = 0; row < 2 * C; ++row) {
    const size_t r = static_cast<size_t>(row);
    dilated_scale[r] = int8_scale(max_abs(dilated + row * 3 * C, 3 * C));
    projection_scale[r] =
        row < C ? int8_scale(max_abs(projection + row * C, C)) : 1.0 / (sum_scale[row - C] * double{kInt8Max});
  }
  const auto dilated_int8 = [&](int64_t half, int64_t c, int64_t k) {
    const int64_t row = half * C + c;
    return std::nearbyint(dilated[(row * C + k % C) * 3 + k / C] * dilated_scale[static_cast<size_t>(row)]);
  };
  const auto projection_int8 = [&](int64_t half, int64_t c, int64_t k) {
    const int64_t row = half * C + c;
    return std::nearbyint(projection[row * C + k] * projection_scale[static_cast<size_t>(row)]);
  };
  if (operations.int16_products) {
    pack_panels(layer.dilated16, channels, operations.width, 4 * channels, 2, [&](int64_t half, int64_t c, int64_t k) {
      const auto tap = [&](int64_t n) { return dilated_int8(half, c, n * C + k % C); };
      return product_weight(tap(0), tap(1), tap(2), k / C);
    });
    pack_panels(layer.projection16, channels, operations.width, channels, 2, projection_int8);
  } else {
    pack_panels(layer.dilated, channels, operations.width, 3 * channels, 2, dilated_int8);
    pack_panels(layer.projection, channels, operations.width, channels, 2, projection_int8);
  }
  for (int64_t half = 0; half < 2; ++half)
    for (int64_t c = 0; c < C; ++c) {
      const int index = panel_index(static_cast<int>(half), static_cast<int>(c));
      const size_t row = static_cast<size_t>(half * C + c);
      double dilated_sum = 0.0, projection_sum = 0.0;
      for (int64_t k = 0; k < 3 * C; ++k) dilated_sum += dilated_int8(half, c, k);
      for (int64_t k = 0; k < C; ++k) projection_sum += projection_int8(half, c, k);
      layer.dilated_correction[index] = static_cast<int32_t>(-operations.zero_point * dilated_sum);
      layer.dilated_scale[index] = static_cast<float>(kGateScale[half] / (dilated_scale[row] * layer.scale));
      layer.gate_scale[index] = layer.dilated_scale[index] * (kGateParts / kGateExponent);
      if (half == 0) {
        layer.projection_scale[c] = static_cast<float>(kRootHalf / (projection_scale[row] * kInt8Max));
        layer.residual_correction[c] = static_cast<int32_t>(-operations.zero_point * projection_sum);
      } else {
        layer.skip_correction[c] = static_cast<int32_t>(-operations.zero_point * projection_sum);
      }
    }
}

// Quantizes the conditioner. Its int8 outputs are in units of the dilated convolution's sums, times a power of two that
// fits the range of the channel, so that adding them takes a shift and no multiplication.
template <class E>
void Network<E>::quantize_conditioner(const Parameters& p, int layer) {
  const int64_t C = channels, M = bands, inputs = conditioner_inputs<uint8_t>();
  const Int8Layer& int8_layer = int8_layers[static_cast<size_t>(layer)];
  const float* weight = p.conditioner_weight + layer * 2 * C * M;
  const auto weight_int8 = [&](int64_t half, int64_t c, int64_t k) {
    const float* row = weight + (half * C + c) * M;
    return k < M ? std::nearbyint(row[k] * int8_scale(max_abs(row, M))) : 0.0;
  };
  if (operations.int16_products)
    pack_panels(int8_layer.conditioner16, channels, operations.width, static_cast<int>(inputs), 2,
                [&](int64_t half, int64_t c, int64_t k) { return weight_int8(half, c, int16_order(k)); });
  else
    pack_panels(int8_layer.conditioner, channels, operations.width, static_cast<int>(inputs), 2, weight_int8);
  for (int half = 0; half < 2; ++half)
    for (int c = 0; c < C; ++c) {
      const int index = panel_index(half, c);
      const double weight_scale = int8_scale(max_abs(weight + (half * C + c) * M, M));
      double sum = 0.0;
      for (int64_t k = 0; k < M; ++k) sum += weight_int8(half, c, k);
      int8_layer.conditioner_correction[index] = static_cast<int32_t>(-operations.zero_point * sum);
      const double scale = mel_scale > 0.0f ? kGateScale[half] / (weight_scale * mel_scale) : 0.0;
      if (int8_layer.quantized()) {
        const double limit =
            kGateScale[half] * p.conditioner_ranges[(layer * 2 + half) * C + c] / int8_layer.dilated_scale[index];
        const int shift =
            std::clamp(static_cast<int>(std::ceil(std::log2(std::max(limit / kInt8Max, 1.0)))), 0, kMaxShift);
        int8_layer.conditioner_shift[index] = shift;
        int8_layer.conditioner_scale[index] =
            static_cast<float>(std::ldexp(scale / int8_layer.dilated_scale[index], -shift));
        int8_layer.conditioner_bias[index] = 0.0f;  // part of dilated_start
      } else {
        int8_layer.conditioner_shift[index] = 0;
        int8_layer.conditioner_scale[index] = static_cast<float>(scale);
        int8_layer.conditioner_bias[index] = layers[static_cast<size_t>(layer)].conditioner_bias[index];
      }
    }
}

template <class E>
void Network<E>::quantized_step_row(int layer, const float* d, const float* constant, int32_t* row) const {
  const Int8Layer& int8_layer = int8_layers[static_cast<size_t>(layer)];
  std::vector<float> exact(static_cast<size_t>(2 * channels));
  step_row(layer, d, exact.data());
  for (size_t n = 0; n < exact.size(); ++n)
    row[n] = to_int32(int8_layer.dilated_correction[n] +
                      (static_cast<double>(exact[n]) + constant[n]) / int8_layer.dilated_scale[n]);
}

template <class E>
void Network<E>::step_row(int layer, const float* d, float* row) const {
  const float* weight = layers[static_cast<size_t>(layer)].tap_sum;
  for (int half = 0; half < 2; ++half)
    for (int c = 0; c < channels; ++c) {
      double sum = 0.0;
      for (int k = 0; k < channels; ++k)
        sum += static_cast<double>(weight[(half * channels + c) * channels + k]) * d[k];
      row[panel_index(half, c)] = static_cast<float>(kGateScale[half] * sum);
    }
}

template <class E>
void Network<E>::residual_row(int layer, const float* d, float* row) const {
  const float* bias = layers[static_cast<size_t>(layer)].residual_bias;
  for (int c = 0; c < channels; ++c) row[c] = residual_carries_d ? bias[c] + kRootHalf * d[c] : bias[c];
}

template <class E>
OutputHead Network<E>::make_output_head() const {
  OutputHead head{};
  head.channels = channels;
  head.weight = head_weight;
  head.bias = head_bias;
  head.out_weight = out_weight;
  head.out_bias = out_bias;
  return head;
}

template class Network<float>;
template class Network<Bf16>;

}  // namespace diffwave
