// The order of execution of the kernels over time, layers and steps: Sweep::work.
#include "sweep.h"

#include <algorithm>

namespace diffwave {
namespace {

// A register tile may begin up to kGuard rows before the rows that are needed, and end up to kGuard rows after them.
constexpr int64_t kMargin = 2 * kGuard;

// Fills the `count` rows before the audio.
template <class T>
void fill_before(const Ring<T>& ring, const T* row, int64_t count) {
  for (int64_t t = -count; t < 0; ++t) {
    std::copy_n(row, ring.width, ring.at(t));
    ring.mirror(t, 1);
  }
}

// Reflects the rows up to d before the last row to the rows after it, as far as they are computed (before `computed`).
template <class T>
void reflect(const Ring<T>& ring, int64_t last, int64_t d, int64_t computed) {
  for (int64_t t = std::max(last - d, int64_t{0}); t < std::min(last, computed); ++t) {
    std::copy_n(ring.at(t), ring.width, ring.at(2 * last - t));
    ring.mirror(2 * last - t, 1);
  }
}

}  // namespace

template <class E>
Rings<E>::Rings(const Network<E>& network, size_t count, int64_t length, int64_t tile, int threads, Arena arena) {
  const size_t C = static_cast<size_t>(network.channels), N = network.layers.size();
  const auto ring = [&](auto& r, int64_t history, int64_t padding, int64_t width) {
    using T = std::remove_pointer_t<decltype(r.rows)>;
    r.capacity = std::min(history + tile, length + padding) + kMargin;
    r.width = width;
    r.rows = arena.take<T>(static_cast<size_t>(Ring<T>::elements(r.capacity, width)));
  };
  steps.resize(count);
  for (OfStep& step : steps) {
    step.layers.resize(N + 1);
    for (size_t i = 0; i <= N; ++i) {
      LayerRows<E>& layer = step.layers[i];
      const int64_t d = layer.reach = i < N ? network.layers[i].dilation : 0;
      // A reflected row is written as soon as its source exists, up to 2 d ahead.
      const int64_t history = (network.reflect ? 4 : 2) * d;
      ring(layer.x, history, 2 * d, network.channels);
      layer.padding = arena.take<E>(C);
      if (i == N) continue;
      if (network.quantized(i)) {
        ring(layer.x8, history, 2 * d, network.channels);
        layer.padding8 = arena.take<uint8_t>(C);
        layer.step_row8 = arena.take<int32_t>(2 * C);
      }
      layer.step_row = arena.take<float>(2 * C);
      layer.residual_row = arena.take<float>(C);
    }
    ring(step.skip, network.reach, 0, network.channels);
  }
  conditioner.resize(N);
  for (size_t i = 0; i < N; ++i) {
    const int64_t history = (static_cast<int64_t>(count) - 1) * network.reach, width = int64_t{2} * network.channels;
    conditioner[i].rows = {nullptr, 1, width};
    if (network.bands && network.quantized(i))
      ring(conditioner[i].rows8, history, 0, width);
    else if (network.bands)
      ring(conditioner[i].rows, history, 0, width);
    else
      conditioner[i].rows.rows = arena.take<E>(static_cast<size_t>(Ring<E>::elements(1, width)));
  }
  const int64_t history = network.shared_upsampler() ? network.reach : 0;
  if (network.bands && !network.int8()) ring(upsampled, history, 0, network.mel_width());
  if (network.bands && network.int8()) ring(upsampled8, history, 0, network.mel_width());
  scratch.resize(static_cast<size_t>(threads));
  for (E*& rows : scratch) rows = arena.take<E>(scratch_size(network.channels));
  scratch8.resize(static_cast<size_t>(threads));
  if (network.int8())
    for (uint8_t*& rows : scratch8) rows = arena.take<uint8_t>(kScratchRows * C);
  bytes = arena.used();
}

template <class E>
Sweep<E>::Sweep(std::shared_ptr<const Network<E>> network, std::vector<Step> steps, int64_t length, int threads,
                int64_t rows, const float* conditioner_rows)
    : network_(std::move(network)),
      steps_(std::move(steps)),
      length_(length),
      rows_(rows),
      team_(threads),
      memory_(network_->pool.take(Rings<E>(*network_, steps_.size(), length, tile(), threads).bytes)),
      rings_(*network_, steps_.size(), length, tile(), threads, Arena(memory_.data())),
      consumed_(steps_.size(), std::numeric_limits<int64_t>::min()) {
  fill_constants(conditioner_rows);
}

template <class E>
Sweep<E>::~Sweep() {
  network_->pool.give(std::move(memory_));
}

// Fills the rows before the audio, which no layer computes, and the constants of every step.
template <class E>
void Sweep<E>::fill_constants(const float* conditioner_rows) {
  const int C = network_->channels;
  for (size_t i = 0; i < network_->layers.size(); ++i) {
    std::vector<float> row(network_->layers[i].conditioner_bias, network_->layers[i].conditioner_bias + 2 * C);
    if (conditioner_rows)
      for (int half = 0; half < 2; ++half)
        for (int c = 0; c < C; ++c)
          row[static_cast<size_t>(network_->panel_index(half, c))] =
              kGateScale[half] * conditioner_rows[(i * 2 + static_cast<size_t>(half)) * static_cast<size_t>(C) + c];
    const Ring<E>& ring = rings_.conditioner[i].rows;
    for (int64_t n = 0; !network_->bands && n < Ring<E>::elements(1, ring.width); ++n)
      ring.rows[n] = from_float<E>(row[static_cast<size_t>(n % ring.width)]);
    for (size_t s = 0; s < steps_.size(); ++s) fill_layer(s, i, row.data());
  }
}

template <class E>
void Sweep<E>::fill_layer(size_t step, size_t i, const float* conditioner_row) {
  const int C = network_->channels, layer = static_cast<int>(i);
  const float* d = steps_[step].d.data() + i * static_cast<size_t>(C);
  const LayerRows<E>& rows = rings_.steps[step].layers[i];
  network_->step_row(layer, d, rows.step_row);
  network_->residual_row(layer, d, rows.residual_row);
  for (int c = 0; c < C; ++c) rows.padding[c] = from_float<E>(-d[c]);
  fill_before(rows.x, rows.padding, rows.reach);
  if (!network_->quantized(i)) return;
  network_->quantized_step_row(layer, d, conditioner_row, rows.step_row8);
  for (int c = 0; c < C; ++c) rows.padding8[c] = quantize(-d[c], network_->int8_layers[i].scale);
  fill_before(rows.x8, rows.padding8, rows.reach);
}

template <class E>
void Sweep<E>::advance(int step, int64_t begin, int64_t rows) {
  team_.run([&](int rank) { work(step, begin, rows, rank); });
  consumed_[static_cast<size_t>(step)] = begin + rows;
}

// Rows near the end that were computed before the end was known have not been reflected yet.
template <class E>
void Sweep<E>::end(int64_t length) {
  length_ = length;
  if (!network_->reflect) return;
  for (size_t s = 0; s < steps_.size(); ++s) {
    int64_t computed = consumed_[s];  // times before this are in the ring of layer i's inputs
    for (size_t i = 0; i < network_->layers.size(); ++i) {
      const LayerRows<E>& rows = rings_.steps[s].layers[i];
      reflect(rows.x, length - 1, rows.reach, computed);
      if (rows.x8.rows) reflect(rows.x8, length - 1, rows.reach, computed);
      computed = std::max(computed, std::numeric_limits<int64_t>::min() + rows.reach) - rows.reach;
    }
  }
}

// One thread's part of a tile of one step.
template <class E>
void Sweep<E>::work(int step, int64_t begin, int64_t count, int rank) {
  const std::vector<Layer<E>>& layers = network_->layers;
  const Share tile{{begin, begin + count, length_}, rank, team_.size()};
  const bool conditions = step == 0 && network_->bands;

  if (conditions && network_->shared_upsampler()) upsample(0, tile.rows());
  project_input(step, tile.rows());
  team_.barrier();
  // The conditioner is one barrier ahead of its layer, because a thread's rows are not those of its Winograd pairs.
  if (conditions) {
    project_conditioner(0, tile.delayed(layers[0].dilation).rows());
    team_.barrier();
  }
  int64_t delay = 0;
  for (size_t i = 0; i < layers.size(); ++i) {
    delay += layers[i].dilation;
    run_layer(step, i, tile.delayed(delay));
    if (conditions && i + 1 < layers.size())
      project_conditioner(i + 1, tile.delayed(delay + layers[i + 1].dilation).rows());
    team_.barrier();
  }
  run_output_head(step, tile.delayed(delay).rows());
}

template <class E>
void Sweep<E>::upsample(size_t upsampler, Rows rows) {
  Mel mel = window_.mel;
  mel.frames = length_ / network_->hop();
  if (network_->int8())
    upsample_mel(*network_, upsampler, mel, rows.begin, rows.end, rings_.upsampled8);
  else
    upsample_mel(*network_, upsampler, mel, rows.begin, rows.end, rings_.upsampled);
}

// The conditioner of one layer, with its own upsampler unless one serves all layers.
template <class E>
void Sweep<E>::project_conditioner(size_t layer, Rows rows) {
  const Network<E>& net = *network_;
  if (!net.shared_upsampler()) upsample(layer, rows);
  const ConditionerRows<E>& conditioner = rings_.conditioner[layer];
  if (net.int8()) {
    const Int8Layer& weights = net.int8_layers[layer];
    net.operations.quantized_conditioner(
        {net.channels, net.bands, rings_.upsampled8, conditioner.rows8, conditioner.rows, weights.conditioner,
         weights.conditioner16, weights.conditioner_correction, weights.conditioner_scale, weights.conditioner_bias},
        rows);
  } else {
    const Layer<E>& weights = net.layers[layer];
    net.operations.project_conditioner(
        {net.channels, net.bands, rings_.upsampled, conditioner.rows, weights.conditioner, weights.conditioner_bias},
        rows);
  }
}

template <class E>
void Sweep<E>::project_input(int step, Rows rows) {
  const LayerRows<E>& output = rings_.steps[static_cast<size_t>(step)].layers[0];
  network_->operations.input_projection({network_->channels,
                                         {window_.x.data, window_.x.origin},
                                         output.x,
                                         network_->input_weight,
                                         network_->input_bias,
                                         output.edges(network_->reflect)},
                                        rows);
}

template <class E>
void Sweep<E>::run_layer(int step, size_t layer, const Share& share) {
  const Network<E>& net = *network_;
  const auto& state = rings_.steps[static_cast<size_t>(step)];
  const size_t rank = static_cast<size_t>(share.rank), next = std::min(layer + 1, net.layers.size() - 1);
  const BlockMemory<E> memory{
      state.layers[layer],       state.layers[layer + 1],  state.skip,
      rings_.conditioner[layer], rings_.conditioner[next], share.delayed(net.layers[next].dilation).rows().begin,
      rings_.scratch[rank],      rings_.scratch8[rank]};
  run_block(net, layer, make_block(net, layer, memory), share);
}

template <class E>
void Sweep<E>::run_output_head(int step, Rows rows) {
  const Step& now = steps_[static_cast<size_t>(step)];
  OutputHead head = network_->make_output_head();
  head.skip = rings_.steps[static_cast<size_t>(step)].skip;
  head.x = window_.x;
  head.a = now.a;
  head.b = now.b;
  head.sigma = now.sigma;
  head.clamp = now.clamp;
  head.noise = {window_.noise, window_.scale, now.seed, now.noise_step};
  if (window_.noise.data) head.noise.values.data += step * window_.noise_stride;
  network_->operations.output_head(head, rows);
}

template struct Rings<float>;
template struct Rings<Bf16>;
template class Sweep<float>;
template class Sweep<Bf16>;

}  // namespace diffwave
