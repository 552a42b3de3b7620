// Runs the stages of the mel upsampler over a range of rows. upsample_row.inl computes one row of one stage.
#include "upsample.h"

#include <algorithm>
#include <tuple>

namespace diffwave {
namespace {

// Rows of bands at times [begin, end), with zeros on both sides of the bands as far as a vector may read. Rows outside
// the signal are zero.
struct Strip {
  static constexpr long kBefore = 16, kAfter = 32;
  long begin, end, bands, width;
  std::vector<float> values;

  Strip(long begin, long end, long bands)
      : begin(begin),
        end(end),
        bands(bands),
        width(kBefore + bands + kAfter),
        values(static_cast<size_t>((end - begin) * width)) {}
  float* row(long t) { return values.data() + (t - begin) * width + kBefore; }
};

long floor_divide(long a, long b) { return a >= 0 ? a / b : -((b - 1 - a) / b); }

// The padding in time of a transposed convolution. With an output padding of stride % 2, it keeps the length a multiple
// of the stride.
long padding_of(long stride) { return (stride + 1) / 2; }

// The input rows that the outputs [begin, end) of one stage depend on.
std::pair<long, long> inputs_of(long stride, long begin, long end) {
  const long padding = padding_of(stride);
  return {floor_divide(begin + padding, stride) - 1, floor_divide(end - 1 + padding, stride) + 1};
}

template <class E>
struct Upsampler {
  const Network<E>& network;
  const std::vector<UpsampleStage>& stages;
  const Mel& mel;

  long length(size_t level) const {
    long length = mel.frames;
    for (size_t l = 0; l < level; ++l) length *= network.strides[l];
    return length;
  }

  // The output of the first `level` stages.
  Strip strip(size_t level, long begin, long end) const {
    Strip out(begin, end, network.bands);
    if (level == 0) {
      for (long t = std::max(begin, 0L); t < std::min(end, mel.frames); ++t)
        for (long m = 0; m < network.bands; ++m)
          out.row(t)[m] = mel.data[m * mel.band_stride + (t - mel.first) * mel.frame_stride];
      return out;
    }
    run(
        level, begin, end, network.operations.upsample_strip, [&](long t) { return out.row(t); },
        network.bands + Strip::kAfter);
    return out;
  }

  // Input i reaches outputs t = i * stride - padding + k, 0 <= k < 2 * stride, so two inputs reach every output.
  template <class T, class Row>
  void run(size_t level, long begin, long end, void (*operation)(const UpsampleRow<T>&), Row row, long width) const {
    const UpsampleStage& stage = stages[level - 1];
    const long stride = network.strides[level - 1], padding = padding_of(stride);
    const auto [first, last] = inputs_of(stride, begin, end);
    Strip input = strip(level - 1, first, last);
    for (long t = std::max(begin, 0L); t < std::min(end, length(level)); ++t) {
      const long i = floor_divide(t + padding, stride);
      operation({input.row(i), input.row(i - 1), stage.weight.data() + (t + padding - i * stride), stride, stage.bias,
                 network.bands, row(t), width, network.mel_scale});
    }
  }
};

}  // namespace

std::pair<long, long> frames_of(const std::vector<int>& strides, long begin, long end) {
  for (size_t level = strides.size(); level-- > 0;) std::tie(begin, end) = inputs_of(strides[level], begin, end);
  return {begin, end};
}

template <class E, class T>
void upsample_mel(const Network<E>& network, size_t upsampler, const Mel& mel, long begin, long end,
                  const Ring<T>& out) {
  const Upsampler<E> up{network, network.upsamplers[upsampler], mel};
  const size_t levels = network.strides.size();
  begin = std::max(begin, 0L);
  end = std::min(end, up.length(levels));
  if (begin >= end) return;
  const auto run = [&](auto operation) {
    up.run(levels, begin, end, operation, [&](long t) { return out.at(t); }, out.width);
  };
  if constexpr (std::is_same_v<T, E>)
    run(network.operations.upsample_row);
  else
    run(network.operations.upsample_row8);
  for (long t = begin; t < end; ++t) out.mirror(t, 1);
}

template void upsample_mel(const Network<float>&, size_t, const Mel&, long, long, const Ring<float>&);
template void upsample_mel(const Network<Bf16>&, size_t, const Mel&, long, long, const Ring<Bf16>&);
template void upsample_mel(const Network<float>&, size_t, const Mel&, long, long, const Ring<uint8_t>&);
template void upsample_mel(const Network<Bf16>&, size_t, const Mel&, long, long, const Ring<uint8_t>&);

}  // namespace diffwave
