#include "sweep.h"

#include <algorithm>

namespace diffwave {
namespace {

// A register tile may begin up to a guard before the rows that are wanted and end up to a guard after them.
constexpr long kMargin = 2 * kGuard;
constexpr long kUnit = 12;

}  // namespace

template <class E>
Sweep<E>::Sweep(std::shared_ptr<const Network<E>> network, long length, Mel mel, std::vector<Step> steps, float* x,
                int threads, long rows)
    : network_(std::move(network)),
      length_(length),
      rows_(rows),
      mel_(mel),
      steps_(std::move(steps)),
      x_(x),
      team_(threads) {
  size_t bytes = 0;
  lay_out(Arena(), &bytes);
  memory_ = network_->spare.take(bytes);
  lay_out(Arena(memory_.data()), &bytes);
  fill();
}

template <class E>
Sweep<E>::~Sweep() {
  network_->spare.give(std::move(memory_));
}

template <class E>
void Sweep<E>::lay_out(Arena arena, size_t* bytes) {
  const size_t C = static_cast<size_t>(network_->channels), N = network_->layers.size(), S = steps_.size();
  const auto ring = [&](auto& r, long history, long padding, long width) {
    using T = std::remove_pointer_t<decltype(r.rows)>;
    r.capacity = std::min(history + tile(), length_ + padding) + kMargin;
    r.width = width;
    r.rows = arena.take<T>(static_cast<size_t>(Ring<T>::elements(r.capacity, width)));
  };
  states_.resize(S);
  for (State& state : states_) {
    state.x.resize(N + 1);
    state.padding.resize(N + 1);
    state.step_row.resize(N);
    state.residual_row.resize(N);
    for (size_t i = 0; i <= N; ++i) {
      const long d = i < N ? network_->layers[i].dilation : 0;
      // Reflected rows are written as soon as what they reflect is there, up to 2 d ahead.
      ring(state.x[i], (network_->reflect ? 4 : 2) * d, 2 * d, network_->channels);
      state.padding[i] = arena.take<E>(C);
      if (i == N) continue;
      state.step_row[i] = arena.take<float>(2 * C);
      state.residual_row[i] = arena.take<float>(C);
    }
    ring(state.skip, network_->reach, 0, network_->channels);
  }
  conditioner_.resize(N);
  for (size_t i = 0; i < N; ++i) {
    if (network_->bands)
      ring(conditioner_[i], (static_cast<long>(S) - 1) * network_->reach, 0, 2L * network_->channels);
    else
      conditioner_[i] = network_->layers[i].constant;
  }
  if (network_->bands) ring(upsampled_, shared_upsampler() ? network_->reach : 0, 0, network_->mel_width());
  scratch_.resize(static_cast<size_t>(team_.size()));
  for (E*& scratch : scratch_) scratch = arena.take<E>(kScratchRows * C);
  *bytes = arena.used();
}

// The rows before the audio, which no layer computes, and the constants of every step.
template <class E>
void Sweep<E>::fill() {
  const int C = network_->channels;
  for (size_t s = 0; s < states_.size(); ++s)
    for (size_t i = 0; i < network_->layers.size(); ++i) {
      const float* d = steps_[s].d.data() + i * static_cast<size_t>(C);
      network_->step_row(static_cast<int>(i), d, states_[s].step_row[i]);
      network_->residual_row(static_cast<int>(i), d, states_[s].residual_row[i]);
      E* padding = states_[s].padding[i];
      for (int c = 0; c < C; ++c) padding[c] = from_float<E>(-d[c]);
      const Ring<E>& ring = states_[s].x[i];
      for (long t = -network_->layers[i].dilation; t < 0; ++t) {
        std::copy_n(padding, C, ring.at(t));
        ring.mirror(t, 1);
      }
    }
}

template <class E>
Edges<E> Sweep<E>::edges(const State& state, size_t layer) const {
  const long reach = layer < network_->layers.size() ? network_->layers[layer].dilation : 0;
  return {state.padding[layer], reach, network_->reflect};
}

template <class E>
void Sweep<E>::advance(int step, long begin) {
  team_.run([&](int rank) { work(step, begin, rank); });
}

template <class E>
void Sweep<E>::work(int step, long begin, int rank) {
  const Network<E>& net = *network_;
  const Operations<E>& run = net.operations;
  const State& state = states_[static_cast<size_t>(step)];
  const Step& now = steps_[static_cast<size_t>(step)];
  const int C = net.channels;
  // The rows of a tile inside the audio are shared out evenly, in units that every register tile divides.
  const auto rows = [&](long delay) {
    const long first = begin - delay, units = tile() / kUnit, size = team_.size();
    const long from = std::clamp(-first / kUnit, 0L, units);
    const long to = std::clamp((length_ - first + kUnit - 1) / kUnit, from, units);
    const auto share = [&](long part) { return first + (from + (to - from) * part / size) * kUnit; };
    return Rows{rank == 0 ? first : share(rank), rank + 1 == size ? first + tile() : share(rank + 1), length_};
  };
  const bool conditions = step == 0 && net.bands;

  if (conditions && shared_upsampler()) upsample_mel(net, 0, mel_, rows(0).begin, rows(0).end, upsampled_);
  run.input_projection({C, x_, state.x[0], net.input_weight, net.input_bias, edges(state, 0)}, rows(0));
  team_.barrier();

  ResidualBlock<E> block{};
  block.channels = C;
  block.skip = state.skip;
  block.skip_start = net.skip_start;
  block.scratch = scratch_[static_cast<size_t>(rank)];
  long delay = 0;
  for (size_t i = 0; i < net.layers.size(); ++i) {
    const Layer<E>& layer = net.layers[i];
    const size_t next = std::min(i + 1, net.layers.size() - 1);
    delay += layer.dilation;
    if (conditions) {
      if (!shared_upsampler()) upsample_mel(net, i, mel_, rows(delay).begin, rows(delay).end, upsampled_);
      run.project_conditioner({C, net.bands, upsampled_, conditioner_[i], layer.conditioner, layer.conditioner_bias},
                              rows(delay));
    }
    block.dilation = layer.dilation;
    block.x = state.x[i];
    block.y = state.x[i + 1];
    block.conditioner = conditioner_[i];
    block.step_bias = state.step_row[i];
    block.dilated = layer.dilated;
    block.projection = layer.projection;
    block.residual_bias = state.residual_row[i];
    block.edges = edges(state, i + 1);
    block.next_conditioner = conditioner_[next];
    block.next_begin = rows(delay + net.layers[next].dilation).begin;
    run.residual_block(block, rows(delay));
    block.skip_start = nullptr;
    team_.barrier();
  }

  OutputHead head{};
  head.channels = C;
  head.skip = state.skip;
  head.weight = net.head_weight;
  head.bias = net.head_bias;
  head.out_weight = net.out_weight;
  head.out_bias = net.out_bias;
  head.x = x_;
  head.a = now.a;
  head.b = now.b;
  head.sigma = now.sigma;
  head.clamp = now.clamp;
  head.noise = now.noise;
  run.output_head(head, rows(delay));
}

template class Sweep<float>;
template class Sweep<Bf16>;

}  // namespace diffwave
