// Copies a whole signal into rings, runs one kernel over it on one thread, and copies the result back.
#include "whole_signal.h"

#include <algorithm>
#include <memory>

#include "residual_block/make_block.h"

namespace diffwave {
namespace {

// A ring that holds the whole signal and d rows on each side.
template <class T>
struct WholeRing {
  Ring<T> ring;
  Buffer memory;

  WholeRing(int64_t length, int64_t width, int64_t d = 0) {
    ring.capacity = length + 2 * d + 2 * kGuard;
    ring.width = width;
    memory = Buffer(static_cast<size_t>(Ring<T>::elements(ring.capacity, width)) * sizeof(T));
    ring.rows = reinterpret_cast<T*>(memory.data());
  }

  // Sets element index(c) of row t to element(t, c), for c < count.
  template <class Index, class Element>
  void fill(int64_t length, int64_t count, Index index, Element element) {
    for (int64_t t = 0; t < length; ++t)
      for (int64_t c = 0; c < count; ++c) ring.at(t)[index(c)] = element(t, c);
    for (int64_t t = 0; t < length; ++t) ring.mirror(t, 1);
  }
  template <class Index>
  void write(const float* values, int64_t length, int64_t count, Index index) {
    fill(length, count, index, [&](int64_t t, int64_t c) { return from_float<T>(values[t * count + c]); });
  }
  template <class Index>
  void read(float* values, int64_t length, int64_t count, Index index) const {
    for (int64_t t = 0; t < length; ++t)
      for (int64_t c = 0; c < count; ++c) values[t * count + c] = to_float(ring.at(t)[index(c)]);
  }
};

int64_t identity(int64_t c) { return c; }

// The index of channel c of 2C in a row in panel order.
template <class E>
auto panel_order(const Network<E>& network) {
  return [&network](int64_t c) {
    return static_cast<int64_t>(network.panel_index(c >= network.channels, static_cast<int>(c % network.channels)));
  };
}

float gate_scale(int64_t c, int64_t channels) { return kGateScale[c >= channels]; }

// Fills d rows before and after the signal: with its reflection, or with value(c).
template <class T, class Value>
void pad(const Ring<T>& ring, int64_t length, int64_t d, bool reflect, Value value) {
  for (int64_t t = -d; t < length + d; ++t) {
    if (t >= 0 && t < length) continue;
    const int64_t source = t < 0 ? -t : 2 * (length - 1) - t;
    for (int64_t c = 0; c < ring.width; ++c) ring.at(t)[c] = reflect ? ring.at(source)[c] : value(c);
    ring.mirror(t, 1);
  }
}

// The unit of a quantized layer's int8 conditioner, in exponents of the gate. `index` is in panel order.
float conditioner_unit(const Int8Layer& layer, int64_t index) {
  return std::ldexp(layer.dilated_scale[index], layer.conditioner_shift[index]);
}

// Corrections of the layers after the first. They are part of the initial skip sum, and each layer subtracts its own.
template <class E>
std::vector<int32_t> later_corrections(const Network<E>& network) {
  std::vector<int32_t> sums(static_cast<size_t>(network.channels));
  for (size_t i = 1; i < network.int8_layers.size(); ++i)
    for (size_t c = 0; c < sums.size(); ++c) sums[c] += network.int8_layers[i].skip_correction[c];
  return sums;
}

// The residual block of an int8 network. conditioner [L][2C] is scaled for the gate. Fills the int8 members of `memory`
// that are missing; the skip sum is converted to int32 and back.
template <class E>
void run_int8_block(const Network<E>& network, int layer, LayerRows<E>& input, ConditionerRows<E>& conditioner_rows,
                    BlockMemory<E>& memory, const float* conditioner, const float* d, int64_t length, const float* h,
                    float* skip) {
  const size_t i = static_cast<size_t>(layer);
  const int64_t C = network.channels, dilation = network.layers[i].dilation;
  const Int8Layer& int8_layer = network.int8_layers[i];
  const float* bias = network.layers[i].conditioner_bias;
  WholeRing<uint8_t> x8(length, C, dilation);
  std::vector<int32_t> step_row8(static_cast<size_t>(2 * C));
  if (int8_layer.quantized()) {
    x8.fill(length, C, identity, [&](int64_t t, int64_t c) { return quantize(h[t * C + c], int8_layer.scale); });
    pad(x8.ring, length, dilation, network.reflect, [&](int64_t c) { return quantize(-d[c], int8_layer.scale); });
    network.quantized_step_row(layer, d, bias, step_row8.data());
    input.x8 = x8.ring;
  }
  input.step_row8 = step_row8.data();
  WholeRing<int8_t> conditioner8(length, 2 * C);
  if (int8_layer.quantized() && network.bands) {
    const auto index = panel_order(network);
    conditioner8.fill(length, 2 * C, index, [&](int64_t t, int64_t c) {
      return to_int8((conditioner[t * 2 * C + c] - bias[index(c)]) / conditioner_unit(int8_layer, index(c)));
    });
    conditioner_rows.rows8 = conditioner8.ring;
  }
  Buffer scratch8(static_cast<size_t>(kScratchRows * C));
  memory.scratch8 = reinterpret_cast<uint8_t*>(scratch8.data());
  int32_t* const sums = reinterpret_cast<int32_t*>(memory.skip.rows);
  for (int64_t n = 0; n < (memory.skip.capacity + kGuard) * C; ++n)
    sums[n] = static_cast<int32_t>(std::nearbyint(memory.skip.rows[n] / network.sum_scale[n % C])) +
              int8_layer.skip_correction[n % C];
  const QuantizedBlock<E> block = make_block(network, i, memory);
  run_block(network, i, block, {{0, length, length}, 0, 1});
  const std::vector<int32_t> later = later_corrections(network);
  for (int64_t t = 0; t < length; ++t)
    for (int64_t c = 0; c < C; ++c) {
      const float* value = memory.skip.at(t) + c;
      int32_t whole;
      std::memcpy(&whole, value, sizeof whole);
      if (layer == 0) whole -= later[static_cast<size_t>(c)];
      skip[t * C + c] = block.sum_scale ? *value : static_cast<float>(whole) * network.sum_scale[c];
    }
}

}  // namespace

template <class E>
void run_upsample_mel(const Network<E>& network, int layer, const Mel& mel, float* out) {
  const int64_t length = mel.frames * network.hop(), M = network.bands;
  const size_t upsampler = network.shared_upsampler() ? 0 : static_cast<size_t>(layer);
  if (!network.int8()) {
    WholeRing<E> rows(length, network.mel_width());
    upsample_mel(network, upsampler, mel, 0, length, rows.ring);
    rows.read(out, length, M, identity);
    return;
  }
  WholeRing<uint8_t> rows(length, network.mel_width());
  upsample_mel(network, upsampler, mel, 0, length, rows.ring);
  for (int64_t t = 0; t < length; ++t)
    for (int64_t m = 0; m < M; ++m)
      out[t * M + m] =
          network.mel_scale > 0.0f ? static_cast<float>(rows.ring.at(t)[m] - kZeroPoint) / network.mel_scale : 0.0f;
}

template <class E>
void run_project_conditioner(const Network<E>& network, int layer, const float* mel, int64_t length, float* out) {
  const int64_t C = network.channels, M = network.bands;
  WholeRing<E> conditioner(length, 2 * C);
  const Layer<E>& weights = network.layers[static_cast<size_t>(layer)];
  const auto index = panel_order(network);
  if (!network.int8()) {
    WholeRing<E> rows(length, network.mel_width());
    rows.write(mel, length, M, identity);
    network.operations.project_conditioner(
        {network.channels, network.bands, rows.ring, conditioner.ring, weights.conditioner, weights.conditioner_bias},
        {0, length, length});
    conditioner.read(out, length, 2 * C, index);
  } else {
    const Int8Layer& int8_layer = network.int8_layers[static_cast<size_t>(layer)];
    WholeRing<uint8_t> rows(length, network.mel_width());
    WholeRing<int8_t> conditioner8(length, 2 * C);
    rows.fill(length, M, identity, [&](int64_t t, int64_t m) { return quantize(mel[t * M + m], network.mel_scale); });
    network.operations.quantized_conditioner(
        {network.channels, network.bands, rows.ring, int8_layer.quantized() ? conditioner8.ring : Ring<int8_t>{},
         conditioner.ring, int8_layer.conditioner, int8_layer.conditioner16, int8_layer.conditioner_correction,
         int8_layer.conditioner_scale, int8_layer.conditioner_bias},
        {0, length, length});
    conditioner.read(out, length, 2 * C, index);
    for (int64_t t = 0; t < length && int8_layer.quantized(); ++t)
      for (int64_t c = 0; c < 2 * C; ++c)
        out[t * 2 * C + c] = weights.conditioner_bias[index(c)] +
                             conditioner8.ring.at(t)[index(c)] * conditioner_unit(int8_layer, index(c));
  }
  for (int64_t n = 0; n < length * 2 * C; ++n) out[n] /= gate_scale(n % (2 * C), C);
}

template <class E>
void run_input_projection(const Network<E>& network, const float* x, int64_t length, float* h) {
  WholeRing<E> rows(length, network.channels);
  network.operations.input_projection(
      {network.channels, {x}, rows.ring, network.input_weight, network.input_bias, {nullptr, 0, false}},
      {0, length, length});
  rows.read(h, length, network.channels, identity);
}

template <class E>
void run_residual_block(const Network<E>& network, int layer, const float* conditioner, const float* d, int64_t length,
                        float* h, float* skip) {
  const size_t i = static_cast<size_t>(layer);
  const int64_t C = network.channels;
  const Layer<E>& weights = network.layers[i];
  WholeRing<E> x(length, C, weights.dilation), y(length, C), conditioner_ring(length, 2 * C);
  WholeRing<float> sum(length, C);
  x.write(h, length, C, identity);
  pad(x.ring, length, weights.dilation, network.reflect, [&](int64_t c) { return from_float<E>(-d[c]); });
  sum.write(skip, length, C, identity);
  std::vector<float> scaled;
  if (conditioner) {
    scaled.assign(conditioner, conditioner + length * 2 * C);
    for (size_t n = 0; n < scaled.size(); ++n) scaled[n] *= gate_scale(static_cast<int64_t>(n) % (2 * C), C);
    conditioner_ring.write(scaled.data(), length, 2 * C, panel_order(network));
  } else {
    conditioner_ring.fill(length, 2 * C, identity,
                          [&](int64_t, int64_t c) { return from_float<E>(weights.conditioner_bias[c]); });
  }
  std::vector<float> step_row(static_cast<size_t>(2 * C)), residual_row(static_cast<size_t>(C));
  network.step_row(layer, d, step_row.data());
  network.residual_row(layer, d, residual_row.data());
  LayerRows<E> input, output;
  input.x = x.ring;
  input.step_row = step_row.data();
  input.residual_row = residual_row.data();
  output.x = y.ring;
  ConditionerRows<E> conditioner_rows{conditioner_ring.ring, {}};
  Buffer scratch(scratch_size(network.channels) * sizeof(E));
  BlockMemory<E> memory{
      input, output, sum.ring, conditioner_rows, conditioner_rows, 0, reinterpret_cast<E*>(scratch.data()), nullptr};
  if (network.int8()) {
    run_int8_block(network, layer, input, conditioner_rows, memory, scaled.data(), d, length, h, skip);
  } else {
    run_block(network, i, make_block(network, i, memory), {{0, length, length}, 0, 1});
    sum.read(skip, length, C, identity);
  }
  y.read(h, length, C, identity);
}

template <class E>
void run_output_head(const Network<E>& network, const float* skip, int64_t length, float* eps) {
  WholeRing<float> sum(length, network.channels);
  sum.write(skip, length, network.channels, identity);
  std::fill_n(eps, length, 0.0f);
  OutputHead head = network.make_output_head();
  head.skip = sum.ring;
  head.x = {eps};
  head.b = 1.0f;
  network.operations.output_head(head, {0, length, length});
}

#define DIFFWAVE_OPERATIONS(E)                                                                                   \
  template void run_upsample_mel(const Network<E>&, int, const Mel&, float*);                                    \
  template void run_project_conditioner(const Network<E>&, int, const float*, int64_t, float*);                  \
  template void run_input_projection(const Network<E>&, const float*, int64_t, float*);                          \
  template void run_residual_block(const Network<E>&, int, const float*, const float*, int64_t, float*, float*); \
  template void run_output_head(const Network<E>&, const float*, int64_t, float*);
DIFFWAVE_OPERATIONS(float)
DIFFWAVE_OPERATIONS(Bf16)

}  // namespace diffwave
