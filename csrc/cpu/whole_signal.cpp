#include "operations.h"

#include <algorithm>
#include <memory>

namespace diffwave {
namespace {

// A ring that holds the whole signal and d rows on each side.
template <class T>
struct Whole {
  Ring<T> ring;
  Buffer memory;

  Whole(long length, long width, long d = 0) {
    ring.capacity = length + 2 * d + 2 * kGuard;
    ring.width = width;
    memory = Buffer(static_cast<size_t>(Ring<T>::elements(ring.capacity, width)) * sizeof(T));
    ring.rows = reinterpret_cast<T*>(memory.data());
  }
  // place(c) is where value c of a row stands.
  template <class Place>
  void write(const float* values, long length, long count, Place place) {
    for (long t = 0; t < length; ++t)
      for (long c = 0; c < count; ++c) ring.at(t)[place(c)] = from_float<T>(values[t * count + c]);
    if (length > 0)
      for (long t = 0; t < length; ++t) ring.mirror(t, 1);
  }
  template <class Place>
  void read(float* values, long length, long count, Place place) const {
    for (long t = 0; t < length; ++t)
      for (long c = 0; c < count; ++c) values[t * count + c] = to_float(ring.at(t)[place(c)]);
  }
};

long same(long c) { return c; }

// Where channel c of 2C stands in panel order.
template <class E>
auto panel_order(const Network<E>& network) {
  return [&network](long c) {
    return static_cast<long>(network.panel_index(c >= network.channels, static_cast<int>(c % network.channels)));
  };
}

float gate_scale(long c, long channels) { return kGateScale[c >= channels]; }

// The rows before and after the signal: its reflection, or a row's values.
template <class T, class Value>
void surround(const Ring<T>& ring, long length, long d, bool reflect, Value value) {
  for (long t = -d; t < length + d; ++t) {
    if (t >= 0 && t < length) continue;
    const long source = t < 0 ? -t : 2 * (length - 1) - t;
    for (long c = 0; c < ring.width; ++c) ring.at(t)[c] = reflect ? ring.at(source)[c] : value(c);
    ring.mirror(t, 1);
  }
}

// In the conditioner's rows, a byte of a quantized layer stands for so much of the gate's exponents.
float conditioner_unit(const QuantizedLayer& layer, long place) {
  return std::ldexp(layer.dilated_scale[place], layer.conditioner_shift[place]);
}

// What bytes add to a block that is otherwise ready, conditioner [L][2C] scaled for the gate; the skip sum goes through
// integers and back.
template <class E>
void run_quantized_block(const Network<E>& network, int layer, QuantizedBlock<E>& block, const float* conditioner,
                         const float* d, long length, const float* h, float* skip) {
  const long C = network.channels, rows = block.skip.capacity + kGuard;
  const QuantizedLayer& own = network.quantized[static_cast<size_t>(layer)];
  const float* bias = network.layers[static_cast<size_t>(layer)].conditioner_bias;
  Whole<uint8_t> x8(length, C, block.dilation);
  std::vector<int32_t> start(static_cast<size_t>(2 * C));
  if (own.bytes()) {
    for (long t = 0; t < length; ++t)
      for (long c = 0; c < C; ++c) x8.ring.at(t)[c] = quantize(h[t * C + c], own.scale);
    for (long t = 0; t < length; ++t) x8.ring.mirror(t, 1);
    surround(x8.ring, length, block.dilation, network.reflect, [&](long c) { return quantize(-d[c], own.scale); });
    network.quantized_step_row(layer, d, bias, start.data());
    block.x8 = x8.ring;
  }
  Whole<int8_t> bytes(length, 2 * C);
  const auto place = panel_order(network);
  if (own.bytes() && network.bands) {
    for (long t = 0; t < length; ++t)
      for (long c = 0; c < 2 * C; ++c) {
        const long at = place(c);
        bytes.ring.at(t)[at] = to_byte((conditioner[t * 2 * C + c] - bias[at]) / conditioner_unit(own, at));
      }
    for (long t = 0; t < length; ++t) bytes.ring.mirror(t, 1);
    block.conditioner8 = block.next_conditioner8 = bytes.ring;
    block.conditioner_shift = own.conditioner_shift;
  }
  Buffer scratch8(static_cast<size_t>(kScratchRows * C));
  block.scratch8 = reinterpret_cast<uint8_t*>(scratch8.data());
  block.dilated8 = own.dilated;
  block.projection8 = own.projection;
  block.dilated16 = own.dilated16;
  block.projection16 = own.projection16;
  block.dilated_start = start.data();
  block.dilated_scale = own.gate_scale;
  block.gate = &gate_table();
  block.projection_scale = own.projection_scale;
  block.residual_start = own.residual_zero;
  block.sum_start = layer == 0 ? network.sum_start : nullptr;
  block.sum_scale = static_cast<size_t>(layer) + 1 == network.layers.size() ? network.sum_scale : nullptr;
  int32_t* const sums = reinterpret_cast<int32_t*>(block.skip.rows);
  for (long n = 0; n < rows * C; ++n)
    sums[n] =
        static_cast<int32_t>(std::nearbyint(block.skip.rows[n] / network.sum_scale[n % C])) + own.skip_zero[n % C];
  std::vector<int32_t> others(static_cast<size_t>(C));  // what the layers to come take off, of the sum that starts here
  for (size_t i = 1; i < network.quantized.size() && layer == 0; ++i)
    for (long c = 0; c < C; ++c) others[static_cast<size_t>(c)] += network.quantized[i].skip_zero[c];
  if (network.paired(own))
    network.operations.paired_quantized_block(block, {0, length, length},
                                              PairedTile{0, length, block.dilation}.pairs());
  else
    network.operations.quantized_block(block, {0, length, length});
  for (long t = 0; t < length; ++t)
    for (long c = 0; c < C; ++c) {
      const float* value = block.skip.at(t) + c;
      int32_t whole;
      std::memcpy(&whole, value, sizeof whole);
      whole -= others[static_cast<size_t>(c)];
      skip[t * C + c] = block.sum_scale ? *value : static_cast<float>(whole) * network.sum_scale[c];
    }
}

}  // namespace

template <class E>
void run_upsample_mel(const Network<E>& network, int layer, const Mel& mel, float* out) {
  long length = mel.frames;
  for (int stride : network.strides) length *= stride;
  const size_t upsampler = network.upsamplers.size() == 1 ? 0 : static_cast<size_t>(layer);
  if (network.quantized.empty()) {
    Whole<E> rows(length, network.mel_width());
    upsample_mel(network, upsampler, mel, 0, length, rows.ring);
    rows.read(out, length, network.bands, same);
    return;
  }
  Whole<uint8_t> rows(length, network.mel_width());
  upsample_mel(network, upsampler, mel, 0, length, rows.ring);
  for (long t = 0; t < length; ++t)
    for (long m = 0; m < network.bands; ++m)
      out[t * network.bands + m] =
          network.mel_scale > 0.0f ? static_cast<float>(rows.ring.at(t)[m] - kZero) / network.mel_scale : 0.0f;
}

template <class E>
void run_project_conditioner(const Network<E>& network, int layer, const float* mel, long length, float* out) {
  const long C = network.channels, M = network.bands;
  Whole<E> conditioner(length, 2 * C);
  const Layer<E>& l = network.layers[static_cast<size_t>(layer)];
  const auto place = panel_order(network);
  if (network.quantized.empty()) {
    Whole<E> rows(length, network.mel_width());
    rows.write(mel, length, M, same);
    network.operations.project_conditioner(
        {network.channels, network.bands, rows.ring, conditioner.ring, l.conditioner, l.conditioner_bias},
        {0, length, length});
    conditioner.read(out, length, 2 * C, place);
  } else {
    const QuantizedLayer& own = network.quantized[static_cast<size_t>(layer)];
    Whole<uint8_t> rows(length, network.mel_width());
    Whole<int8_t> bytes(length, 2 * C);
    for (long t = 0; t < length; ++t)
      for (long m = 0; m < M; ++m) rows.ring.at(t)[m] = quantize(mel[t * M + m], network.mel_scale);
    for (long t = 0; t < length; ++t) rows.ring.mirror(t, 1);
    network.operations.quantized_conditioner(
        {network.channels, network.bands, rows.ring, own.bytes() ? bytes.ring : Ring<int8_t>{}, conditioner.ring,
         own.conditioner, own.conditioner16, own.conditioner_zero, own.conditioner_scale, own.conditioner_bias},
        {0, length, length});
    conditioner.read(out, length, 2 * C, place);
    for (long t = 0; t < length && own.bytes(); ++t)
      for (long c = 0; c < 2 * C; ++c) {
        const long at = place(c);
        out[t * 2 * C + c] = l.conditioner_bias[at] + bytes.ring.at(t)[at] * conditioner_unit(own, at);
      }
  }
  for (long n = 0; n < length * 2 * C; ++n) out[n] /= gate_scale(n % (2 * C), C);
}

template <class E>
void run_input_projection(const Network<E>& network, const float* x, long length, float* h) {
  Whole<E> rows(length, network.channels);
  network.operations.input_projection(
      {network.channels, {x}, rows.ring, network.input_weight, network.input_bias, {nullptr, 0, false}},
      {0, length, length});
  rows.read(h, length, network.channels, same);
}

template <class E>
void run_residual_block(const Network<E>& network, int layer, const float* conditioner, const float* d, long length,
                        float* h, float* skip) {
  const long C = network.channels;
  const Layer<E>& l = network.layers[static_cast<size_t>(layer)];
  Whole<E> x(length, C, l.dilation), y(length, C), given(length, 2 * C);
  Whole<float> sum(length, C);
  x.write(h, length, C, same);
  surround(x.ring, length, l.dilation, network.reflect, [&](long c) { return from_float<E>(-d[c]); });
  sum.write(skip, length, C, same);
  std::vector<float> scaled;
  if (conditioner) {
    scaled.assign(conditioner, conditioner + length * 2 * C);
    for (size_t n = 0; n < scaled.size(); ++n) scaled[n] *= gate_scale(static_cast<long>(n) % (2 * C), C);
    given.write(scaled.data(), length, 2 * C, panel_order(network));
  } else {
    for (long t = 0; t < length; ++t) {
      for (long c = 0; c < 2 * C; ++c) given.ring.at(t)[c] = from_float<E>(l.conditioner_bias[c]);
      given.ring.mirror(t, 1);
    }
  }
  std::vector<float> step_row(static_cast<size_t>(2 * C)), residual_row(static_cast<size_t>(C));
  network.step_row(layer, d, step_row.data());
  network.residual_row(layer, d, residual_row.data());
  Buffer scratch(scratch_size(network.channels) * sizeof(E));
  QuantizedBlock<E> block{};
  block.channels = network.channels;
  block.dilation = l.dilation;
  block.x = x.ring;
  block.y = y.ring;
  block.skip = sum.ring;
  block.conditioner = block.next_conditioner = given.ring;
  block.step_bias = step_row.data();
  block.dilated = l.dilated;
  block.projection = l.projection;
  block.residual_bias = residual_row.data();
  block.skip_start = layer == 0 ? network.skip_start : nullptr;
  block.scratch = reinterpret_cast<E*>(scratch.data());
  if (network.quantized.empty()) {
    const Rows rows{0, length, length};
    if (network.paired())
      network.operations.paired_block(block, rows, PairedTile{0, length, l.dilation}.pairs());
    else
      network.operations.residual_block(block, rows);
    sum.read(skip, length, C, same);
  } else {
    run_quantized_block(network, layer, block, scaled.data(), d, length, h, skip);
  }
  y.read(h, length, C, same);
}

template <class E>
void run_output_head(const Network<E>& network, const float* skip, long length, float* eps) {
  Whole<float> sum(length, network.channels);
  sum.write(skip, length, network.channels, same);
  std::fill_n(eps, length, 0.0f);
  OutputHead head{};
  head.channels = network.channels;
  head.skip = sum.ring;
  head.weight = network.head_weight;
  head.bias = network.head_bias;
  head.out_weight = network.out_weight;
  head.out_bias = network.out_bias;
  head.x = {eps};
  head.b = 1.0f;
  network.operations.output_head(head, {0, length, length});
}

#define DIFFWAVE_OPERATIONS(E)                                                                                \
  template void run_upsample_mel(const Network<E>&, int, const Mel&, float*);                                 \
  template void run_project_conditioner(const Network<E>&, int, const float*, long, float*);                  \
  template void run_input_projection(const Network<E>&, const float*, long, float*);                          \
  template void run_residual_block(const Network<E>&, int, const float*, const float*, long, float*, float*); \
  template void run_output_head(const Network<E>&, const float*, long, float*);
DIFFWAVE_OPERATIONS(float)
DIFFWAVE_OPERATIONS(Bf16)

}  // namespace diffwave
