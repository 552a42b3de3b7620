#include "sweep.h"

#include <algorithm>

namespace diffwave {
namespace {

// A register tile may begin up to a guard before the rows that are wanted and end up to a guard after them.
constexpr long kMargin = 2 * kGuard;

// The rows before the audio.
template <class T>
void fill_before(const Ring<T>& ring, const T* row, long count) {
  for (long t = -count; t < 0; ++t) {
    std::copy_n(row, ring.width, ring.at(t));
    ring.mirror(t, 1);
  }
}

// The rows after the last, of those up to d before it that are there.
template <class T>
void reflect(const Ring<T>& ring, long last, long d, long there) {
  for (long t = std::max(last - d, 0L); t < std::min(last, there); ++t) {
    std::copy_n(ring.at(t), ring.width, ring.at(2 * last - t));
    ring.mirror(2 * last - t, 1);
  }
}

}  // namespace

template <class E>
Rings<E>::Rings(const Network<E>& network, size_t count, long length, long tile, int threads, Arena arena) {
  const size_t C = static_cast<size_t>(network.channels), N = network.layers.size();
  const auto ring = [&](auto& r, long history, long padding, long width) {
    using T = std::remove_pointer_t<decltype(r.rows)>;
    r.capacity = std::min(history + tile, length + padding) + kMargin;
    r.width = width;
    r.rows = arena.take<T>(static_cast<size_t>(Ring<T>::elements(r.capacity, width)));
  };
  steps.resize(count);
  for (OfStep& step : steps) {
    step.x.resize(N + 1);
    step.padding.resize(N + 1);
    step.step_row.resize(N);
    step.residual_row.resize(N);
    step.x8.resize(N + 1);
    step.padding8.resize(N + 1);
    step.step_row8.resize(N);
    for (size_t i = 0; i <= N; ++i) {
      const long d = i < N ? network.layers[i].dilation : 0;
      // Reflected rows are written as soon as what they reflect is there, up to 2 d ahead.
      ring(step.x[i], (network.reflect ? 4 : 2) * d, 2 * d, network.channels);
      step.padding[i] = arena.take<E>(C);
      if (i == N) continue;
      if (!network.quantized.empty() && network.quantized[i].bytes()) {
        ring(step.x8[i], (network.reflect ? 4 : 2) * d, 2 * d, network.channels);
        step.padding8[i] = arena.take<uint8_t>(C);
        step.step_row8[i] = arena.take<int32_t>(2 * C);
      }
      step.step_row[i] = arena.take<float>(2 * C);
      step.residual_row[i] = arena.take<float>(C);
    }
    ring(step.skip, network.reach, 0, network.channels);
  }
  conditioner.resize(N);
  conditioner8.resize(N);
  for (size_t i = 0; i < N; ++i) {
    const long history = (static_cast<long>(count) - 1) * network.reach;
    conditioner[i] = {nullptr, 1, 2L * network.channels};
    if (network.bands && !network.quantized.empty() && network.quantized[i].bytes())
      ring(conditioner8[i], history, 0, 2L * network.channels);
    else if (network.bands)
      ring(conditioner[i], history, 0, 2L * network.channels);
    else
      conditioner[i] = {arena.take<E>(static_cast<size_t>(Ring<E>::elements(1, 2 * network.channels))), 1,
                        2L * network.channels};
  }
  const long kept = network.upsamplers.size() == 1 ? network.reach : 0;
  if (network.bands && network.quantized.empty()) ring(upsampled, kept, 0, network.mel_width());
  if (network.bands && !network.quantized.empty()) ring(upsampled8, kept, 0, network.mel_width());
  scratch.resize(static_cast<size_t>(threads));
  for (E*& rows : scratch) rows = arena.take<E>(scratch_size(network.channels));
  if (!network.quantized.empty()) scratch8.resize(static_cast<size_t>(threads));
  for (uint8_t*& rows : scratch8) rows = arena.take<uint8_t>(kScratchRows * C);
  bytes = arena.used();
}

template <class E>
Sweep<E>::Sweep(std::shared_ptr<const Network<E>> network, std::vector<Step> steps, long length, int threads, long rows,
                const float* conditioner_rows)
    : network_(std::move(network)),
      steps_(std::move(steps)),
      length_(length),
      rows_(rows),
      team_(threads),
      memory_(network_->spare.take(Rings<E>(*network_, steps_.size(), length, tile(), threads).bytes)),
      rings_(*network_, steps_.size(), length, tile(), threads, Arena(memory_.data())),
      taken_(steps_.size(), std::numeric_limits<long>::min()) {
  fill(conditioner_rows);
}

template <class E>
Sweep<E>::~Sweep() {
  network_->spare.give(std::move(memory_));
}

// The rows before the audio, which no layer computes, and the constants of every step.
template <class E>
void Sweep<E>::fill(const float* conditioner_rows) {
  const int C = network_->channels;
  for (size_t i = 0; i < network_->layers.size(); ++i) {
    std::vector<float> row(network_->layers[i].conditioner_bias, network_->layers[i].conditioner_bias + 2 * C);
    if (conditioner_rows)
      for (int half = 0; half < 2; ++half)
        for (int c = 0; c < C; ++c)
          row[static_cast<size_t>(network_->panel_index(half, c))] =
              kGateScale[half] * conditioner_rows[(i * 2 + static_cast<size_t>(half)) * static_cast<size_t>(C) + c];
    const Ring<E>& ring = rings_.conditioner[i];
    for (long n = 0; !network_->bands && n < Ring<E>::elements(1, ring.width); ++n)
      ring.rows[n] = from_float<E>(row[static_cast<size_t>(n % ring.width)]);
    for (size_t s = 0; s < steps_.size(); ++s) {
      const float* d = steps_[s].d.data() + i * static_cast<size_t>(C);
      const auto& state = rings_.steps[s];
      network_->step_row(static_cast<int>(i), d, state.step_row[i]);
      network_->residual_row(static_cast<int>(i), d, state.residual_row[i]);
      for (int c = 0; c < C; ++c) state.padding[i][c] = from_float<E>(-d[c]);
      fill_before(state.x[i], state.padding[i], network_->layers[i].dilation);
      if (!state.x8[i].rows) continue;
      network_->quantized_step_row(static_cast<int>(i), d, row.data(), state.step_row8[i]);
      for (int c = 0; c < C; ++c) state.padding8[i][c] = quantize(-d[c], network_->quantized[i].scale);
      fill_before(state.x8[i], state.padding8[i], network_->layers[i].dilation);
    }
  }
}

template <class E>
template <class T>
Edges<T> Sweep<E>::edges(const std::vector<T*>& padding, size_t layer) const {
  const long reach = layer < network_->layers.size() ? network_->layers[layer].dilation : 0;
  return {padding[layer], reach, network_->reflect};
}

template <class E>
void Sweep<E>::advance(int step, long begin, long rows) {
  team_.run([&](int rank) { work(step, begin, rows, rank); });
  taken_[static_cast<size_t>(step)] = begin + rows;
}

// Rows near the end that were computed before it was known to be the end have not been reflected yet.
template <class E>
void Sweep<E>::end(long length) {
  length_ = length;
  if (!network_->reflect) return;
  const long last = length - 1;
  for (size_t s = 0; s < steps_.size(); ++s) {
    long there = taken_[s];  // in the ring of layer i's inputs, times before this
    for (size_t i = 0; i < network_->layers.size(); ++i) {
      const long d = network_->layers[i].dilation;
      reflect(rings_.steps[s].x[i], last, d, there);
      if (rings_.steps[s].x8[i].rows) reflect(rings_.steps[s].x8[i], last, d, there);
      there = std::max(there, std::numeric_limits<long>::min() + d) - d;
    }
  }
}

// The mel reaches a layer: upsampled, unless one upsampler serves all layers, and projected.
template <class E>
void Sweep<E>::condition(size_t layer, Rows rows) {
  const Network<E>& net = *network_;
  if (!shared_upsampler()) upsample(layer, rows);
  const Layer<E>& own = net.layers[layer];
  if (net.quantized.empty()) {
    net.operations.project_conditioner(
        {net.channels, net.bands, rings_.upsampled, rings_.conditioner[layer], own.conditioner, own.conditioner_bias},
        rows);
  } else {
    const QuantizedLayer& bytes = net.quantized[layer];
    net.operations.quantized_conditioner({net.channels, net.bands, rings_.upsampled8, rings_.conditioner8[layer],
                                          rings_.conditioner[layer], bytes.conditioner, bytes.conditioner16,
                                          bytes.conditioner_zero, bytes.conditioner_scale, bytes.conditioner_bias},
                                         rows);
  }
}

template <class E>
void Sweep<E>::upsample(size_t upsampler, Rows rows) {
  Mel mel = window_.mel;
  mel.frames = length_ / network_->hop();
  if (network_->quantized.empty())
    upsample_mel(*network_, upsampler, mel, rows.begin, rows.end, rings_.upsampled);
  else
    upsample_mel(*network_, upsampler, mel, rows.begin, rows.end, rings_.upsampled8);
}

template <class E>
void Sweep<E>::work(int step, long begin, long count, int rank) {
  const Network<E>& net = *network_;
  const Operations<E>& run = net.operations;
  const auto& state = rings_.steps[static_cast<size_t>(step)];
  const Step& now = steps_[static_cast<size_t>(step)];
  const int C = net.channels;
  // The rows of a tile inside the audio are shared out evenly, in units that every register tile divides.
  const auto rows = [&](long delay) {
    const long first = begin - delay, units = count / kUnit, size = team_.size();
    const long from = std::clamp(-first / kUnit, 0L, units);
    const long to = std::clamp((length_ - first + kUnit - 1) / kUnit, from, units);
    const auto share = [&](long part) { return first + (from + (to - from) * part / size) * kUnit; };
    return Rows{rank == 0 ? first : share(rank), rank + 1 == size ? first + count : share(rank + 1), length_};
  };
  const bool conditions = step == 0 && net.bands;

  if (conditions && shared_upsampler()) upsample(0, rows(0));
  run.input_projection(
      {C, {window_.x.data, window_.x.origin}, state.x[0], net.input_weight, net.input_bias, edges(state.padding, 0)},
      rows(0));
  team_.barrier();
  // The conditioner is a barrier ahead of its layer: a thread's rows are not those of its pairs.
  if (conditions) {
    condition(0, rows(net.layers[0].dilation));
    team_.barrier();
  }

  QuantizedBlock<E> block{};
  block.channels = C;
  block.skip = state.skip;
  block.skip_start = net.skip_start;
  block.scratch = rings_.scratch[static_cast<size_t>(rank)];
  block.sum_start = net.sum_start;
  if (!net.quantized.empty()) block.scratch8 = rings_.scratch8[static_cast<size_t>(rank)];
  long delay = 0;
  for (size_t i = 0; i < net.layers.size(); ++i) {
    const Layer<E>& layer = net.layers[i];
    const size_t next = std::min(i + 1, net.layers.size() - 1);
    delay += layer.dilation;
    block.dilation = layer.dilation;
    block.x = state.x[i];
    block.y = state.x[i + 1];
    block.conditioner = rings_.conditioner[i];
    block.step_bias = state.step_row[i];
    block.dilated = layer.dilated;
    block.projection = layer.projection;
    block.residual_bias = state.residual_row[i];
    block.edges = edges(state.padding, i + 1);
    block.next_conditioner = rings_.conditioner[next];
    block.next_begin = rows(delay + net.layers[next].dilation).begin;
    const long end = begin - delay + count, size = team_.size();
    const PairedTile tile{std::max(begin - delay, 0L), std::min(end, length_), layer.dilation};
    // What follows the audio is the last thread's.
    const Rows of_pairs{tile.from, rank + 1 == size ? end : tile.to, length_};
    if (net.paired()) {
      run.paired_block(block, of_pairs, tile.share(rank, team_.size()));
    } else if (net.quantized.empty()) {
      run.residual_block(block, rows(delay));
    } else {
      const QuantizedLayer& own = net.quantized[i];
      block.x8 = state.x8[i];
      block.y8 = state.x8[i + 1];
      block.conditioner8 = rings_.conditioner8[i];
      block.next_conditioner8 = rings_.conditioner8[next];
      block.conditioner_shift = own.conditioner_shift;
      block.dilated8 = own.dilated;
      block.projection8 = own.projection;
      block.dilated16 = own.dilated16;
      block.projection16 = own.projection16;
      block.dilated_start = state.step_row8[i];
      block.dilated_scale = own.gate_scale;
      block.gate = &gate_table();
      block.projection_scale = own.projection_scale;
      block.residual_start = own.residual_zero;
      block.sum_scale = i + 1 == net.layers.size() ? net.sum_scale : nullptr;
      block.y_scale = net.quantized[next].scale;
      block.edges8 = edges(state.padding8, i + 1);
      if (net.paired(own))
        run.paired_quantized_block(block, of_pairs, tile.share(rank, team_.size()));
      else
        run.quantized_block(block, rows(delay));
    }
    block.skip_start = nullptr;
    block.sum_start = nullptr;
    if (conditions && i + 1 < net.layers.size()) condition(i + 1, rows(delay + net.layers[i + 1].dilation));
    team_.barrier();
  }

  OutputHead head{};
  head.channels = C;
  head.skip = state.skip;
  head.weight = net.head_weight;
  head.bias = net.head_bias;
  head.out_weight = net.out_weight;
  head.out_bias = net.out_bias;
  head.x = window_.x;
  head.a = now.a;
  head.b = now.b;
  head.sigma = now.sigma;
  head.clamp = now.clamp;
  head.noise = {window_.noise, window_.scale, now.seed, now.noise_step};
  if (window_.noise.data) head.noise.given.data += step * window_.noise_stride;
  run.output_head(head, rows(delay));
}

template struct Rings<float>;
template struct Rings<Bf16>;
template class Sweep<float>;
template class Sweep<Bf16>;

}  // namespace diffwave
