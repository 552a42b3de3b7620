// Checks of single operations. A part of the signal gives the same bytes as the whole signal, although the register
// tiles differ. All operations in sequence give the same bytes as a sweep.
#pragma once

#include "compare.h"
#include "cpu/noise.h"
#include "cpu/whole_signal.h"
#include "step_pipeline.h"

namespace harness {

using diffwave::Ring;

inline Floats part(const Floats& values, Span span, long width) {
  return Floats(values.begin() + span.first * width, values.begin() + span.last * width);
}

inline Span random_part(Random& random, long length) {
  const long first = random.below(length);
  return {first, random.between(first + 1, length)};
}

inline float value_of(float value, float) { return value; }
inline float value_of(diffwave::Bf16 value, float) { return diffwave::to_float(value); }
inline float value_of(uint8_t value, float scale) { return static_cast<float>(value - diffwave::kZeroPoint) / scale; }

// Computes some rows of the upsampled mel in a ring of T.
template <class T, class E>
Floats upsampled(Random& random, const Network<E>& network, size_t upsampler, const diffwave::Mel& mel,
                 Span part_span) {
  Ring<T> ring{nullptr, part_span.size() + random.below(20), network.mel_width()};
  const std::unique_ptr<T[]> rows(new T[static_cast<size_t>(Ring<T>::elements(ring.capacity, ring.width))]);
  ring.rows = rows.get();
  diffwave::upsample_mel(network, upsampler, mel, part_span.first, part_span.last, ring);
  Floats got;
  for (long t = part_span.first; t < part_span.last; ++t)
    for (long m = 0; m < network.bands; ++m) got.push_back(value_of(ring.at(t)[m], network.mel_scale));
  return got;
}

template <class E>
void check_upsample_mel(Random& random, const Job<E>& job, int layer) {
  const auto& network = *job.network;
  const long M = network.bands;
  Floats whole(static_cast<size_t>(job.length * M));
  Window window;
  window.open(random, job, job.x, {0, job.length}, {0, job.frames}, {});
  diffwave::run_upsample_mel(network, layer, window.from_step(0).mel, whole.data());
  expect_finite(whole, "upsample_mel");

  const Span part_span = random_part(random, job.length);
  const auto [low, high] = diffwave::frames_of(network.strides, part_span.first, part_span.last);
  window.open(random, job, job.x, {}, {std::max(low, 0L), std::min(high, job.frames)}, {});
  diffwave::Mel mel = window.from_step(0).mel;
  mel.frames = job.frames;
  const size_t upsampler = network.shared_upsampler() ? 0 : static_cast<size_t>(layer);
  const Floats got = network.int8() ? upsampled<uint8_t>(random, network, upsampler, mel, part_span)
                                    : upsampled<E>(random, network, upsampler, mel, part_span);
  compare(part(whole, part_span, M), got, "upsample_mel");
}

template <class E>
void check_project_conditioner(Random& random, const Job<E>& job, int layer) {
  const long M = job.network->bands, width = 2 * job.network->channels;
  const auto run = [&](Span span, const Floats& mel) {
    Floats out(static_cast<size_t>(span.size() * width));
    diffwave::run_project_conditioner(*job.network, layer, part(mel, span, M).data(), span.size(), out.data());
    return out;
  };
  const Floats mel = random.values(static_cast<size_t>(job.length * M));
  const Floats whole = run({0, job.length}, mel);
  expect_finite(whole, "project_conditioner");
  const Span part_span = random_part(random, job.length);
  compare(part(whole, part_span, width), run(part_span, mel), "project_conditioner");
}

template <class E>
void check_input_projection(Random& random, const Job<E>& job) {
  const long C = job.network->channels;
  const auto run = [&](Span span) {
    Floats h(static_cast<size_t>(span.size() * C));
    diffwave::run_input_projection(*job.network, part(job.x, span, 1).data(), span.size(), h.data());
    return h;
  };
  const Floats whole = run({0, job.length});
  expect_finite(whole, "input_projection");
  const Span part_span = random_part(random, job.length);
  compare(part(whole, part_span, C), run(part_span), "input_projection");
}

template <class E>
void check_output_head(Random& random, const Job<E>& job) {
  const long C = job.network->channels;
  const Floats skip = random.values(static_cast<size_t>(job.length * C));
  const auto run = [&](Span span) {
    Floats eps(static_cast<size_t>(span.size()));
    diffwave::run_output_head(*job.network, part(skip, span, C).data(), span.size(), eps.data());
    return eps;
  };
  const Floats whole = run({0, job.length});
  expect_finite(whole, "output_head");
  const Span part_span = random_part(random, job.length);
  compare(part(whole, part_span, 1), run(part_span), "output_head");
}

// Checks that threads divide the Winograd pairs of a tile without gaps and evenly. Results do not depend on the
// division, so comparing bytes does not test it.
inline void check_shares(Random& random, long d) {
  const long from = random.below(5000);
  const diffwave::WinogradTile tile{from, from + random.between(1, 2000), d};
  const int size = static_cast<int>(random.between(1, 16));
  long next = tile.pairs().begin, total = 0, most = 0;
  for (int rank = 0; rank < size; ++rank) {
    const diffwave::PairRange share = tile.share(rank, size);
    if (share.begin != next) throw Difference("share: expected adjacent shares, got a gap or an overlap");
    next = share.end;
    long products = 0;
    for (long pair = share.begin; pair < share.end; ++pair) {
      const long t = diffwave::first_row_of_pair(pair, d);
      const int rows = (t >= tile.from && t < tile.to) + (t + d >= tile.from && t + d < tile.to);
      products += rows ? 2 + 2 * rows : 0;
    }
    total += products;
    most = std::max(most, products);
  }
  if (next != tile.pairs().end) throw Difference("share: expected all pairs, got none for the last of them");
  // Both ends of a share are rounded to the nearest register tile.
  if (most > total / size + 6 * kUnit + 6) throw Difference("share: expected even work, got too much for one thread");
}

// Compares only rows that lie at least a dilation away from the ends of the part, except where the whole signal ends
// too.
template <class E>
void check_residual_block(Random& random, const Job<E>& job, int layer) {
  const long C = job.network->channels, L = job.length, d = job.network->layers[static_cast<size_t>(layer)].dilation;
  const Floats h = random.values(static_cast<size_t>(L * C)), skip = random.values(h.size());
  const Floats conditioner = random.values(static_cast<size_t>(L * 2 * C)), bias = random.values(size_t(C), 0.25);
  const bool with_conditioner = job.has_mel() || random.chance(50);
  const auto run = [&](Span span) {
    Floats y = part(h, span, C), sum = part(skip, span, C);
    const Floats values = with_conditioner ? part(conditioner, span, 2 * C) : Floats();
    diffwave::run_residual_block(*job.network, layer, with_conditioner ? values.data() : nullptr, bias.data(),
                                 span.size(), y.data(), sum.data());
    y.insert(y.end(), sum.begin(), sum.end());
    return y;
  };
  const Floats whole = run({0, L});
  expect_finite(whole, "residual_block");
  Span part_span = random_part(random, L);
  if (job.network->uses_winograd(static_cast<size_t>(layer))) {
    check_shares(random, d);
    part_span.first -= part_span.first % (2 * d);  // so that the same rows form pairs
  }
  if (job.network->reflect && part_span.size() <= d) part_span = {0, L};
  const Floats got = run(part_span);
  const long from = part_span.first ? d : 0, to = part_span.size() - (part_span.last < L ? d : 0);
  if (from >= to) return;
  for (long half = 0; half < 2; ++half)
    compare(whole.data() + (half * L + part_span.first + from) * C, got.data() + (half * part_span.size() + from) * C,
            static_cast<size_t>((to - from) * C), half ? "residual_block: skip" : "residual_block: h");
}

template <class E>
void check_operation(Random& random, const Job<E>& job) {
  const int layer = static_cast<int>(random.below(static_cast<long>(job.network->layers.size())));
  switch (random.below(job.has_mel() ? 5 : 3)) {
    case 0:
      return check_input_projection(random, job);
    case 1:
      return check_output_head(random, job);
    case 2:
      return check_residual_block(random, job, layer);
    case 3:
      return check_upsample_mel(random, job, layer);
    default:
      return check_project_conditioner(random, job, layer);
  }
}

// Computes a sweep's audio by single operations. Only for networks without a mel: single operations rescale a mel's
// conditioner, which changes its rounding.
template <class E>
Floats composed(const Job<E>& job) {
  const long L = job.length, C = job.network->channels;
  Floats x = job.x, eps(job.x.size()), h(static_cast<size_t>(L * C)), skip(h.size()), noise(job.x.size());
  std::vector<Floats> conditioners(job.network->layers.size());
  if (!job.conditioner_rows.empty())
    for (size_t i = 0; i < conditioners.size(); ++i)
      for (long t = 0; t < L; ++t) {
        const auto row = job.conditioner_rows.begin() + static_cast<long>(i) * 2 * C;
        conditioners[i].insert(conditioners[i].end(), row, row + 2 * C);
      }
  for (size_t s = 0; s < job.steps.size(); ++s) {
    const Step& step = job.steps[s];
    diffwave::run_input_projection(*job.network, x.data(), L, h.data());
    for (size_t i = 0; i < job.network->layers.size(); ++i)
      diffwave::run_residual_block(*job.network, static_cast<int>(i),
                                   conditioners[i].empty() ? nullptr : conditioners[i].data(),
                                   step.d.data() + i * size_t(C), L, h.data(), skip.data());
    diffwave::run_output_head(*job.network, skip.data(), L, eps.data());
    if (step.sigma != 0.0f && !job.noise.empty())
      std::copy_n(job.noise.data() + s * static_cast<size_t>(L), L, noise.data());
    else if (step.sigma != 0.0f)
      diffwave::normal(step.seed, step.noise_step, 0, L, noise.data());
    for (size_t t = 0; t < x.size(); ++t) {
      const float z = job.scale.empty() ? noise[t] : noise[t] * job.scale[t / static_cast<size_t>(job.repeat)];
      x[t] = step.a * x[t] + step.b * eps[t] + step.sigma * (step.sigma == 0.0f ? 0.0f : z);
      if (step.clamp) x[t] = std::min(std::max(x[t], -1.0f), 1.0f);
    }
  }
  return x;
}

}  // namespace harness
