// Runs the stages of the mel upsampler over a range of rows. upsample_row.inl computes one row of one stage.
#include "upsample.h"

#include <algorithm>
#include <tuple>

namespace diffwave {
namespace {

// Rows of bands at times [begin, end), with zeros on both sides of the bands as far as a vector may read. Rows outside
// the signal are zero.
struct Strip {
  static constexpr int64_t kBefore = 16, kAfter = 32;
  int64_t begin, end, bands, width;
  std::vector<float> values;

  Strip(int64_t begin, int64_t end, int64_t bands)
      : begin(begin),
        end(end),
        bands(bands),
        width(kBefore + bands + kAfter),
        values(static_cast<size_t>((end - begin) * width)) {}
  float* row(int64_t t) { return values.data() + (t - begin) * width + kBefore; }
};

int64_t floor_divide(int64_t a, int64_t b) { return a >= 0 ? a / b : -((b - 1 - a) / b); }

// The padding in time of a transposed convolution. With an output padding of stride % 2, it keeps the length a multiple
// of the stride.
int64_t padding_of(int64_t stride) { return (stride + 1) / 2; }

// The input rows that the outputs [begin, end) of one stage depend on.
std::pair<int64_t, int64_t> inputs_of(int64_t stride, int64_t begin, int64_t end) {
  const int64_t padding = padding_of(stride);
  return {floor_divide(begin + padding, stride) - 1, floor_divide(end - 1 + padding, stride) + 1};
}

template <class E>
struct Upsampler {
  const Network<E>& network;
  const std::vector<UpsampleStage>& stages;
  const Mel& mel;

  int64_t length(size_t level) const {
    int64_t length = mel.frames;
    for (size_t l = 0; l < level; ++l) length *= network.strides[l];
    return length;
  }

  // The output of the first `level` stages.
  Strip strip(size_t level, int64_t begin, int64_t end) const {
    Strip out(begin, end, network.bands);
    if (level == 0) {
      for (int64_t t = std::max(begin, int64_t{0}); t < std::min(end, mel.frames); ++t)
        for (int64_t m = 0; m < network.bands; ++m)
          out.row(t)[m] = mel.data[m * mel.band_stride + (t - mel.first) * mel.frame_stride];
      return out;
    }
    run(
        level, begin, end, network.operations.upsample_strip, [&](int64_t t) { return out.row(t); },
        network.bands + Strip::kAfter);
    return out;
  }

  // Input i reaches outputs t = i * stride - padding + k, 0 <= k < 2 * stride, so two inputs reach every output.
  template <class T, class Row>
  void run(size_t level, int64_t begin, int64_t end, void (*operation)(const UpsampleRow<T>&), Row row,
           int64_t width) const {
    const UpsampleStage& stage = stages[level - 1];
    const int64_t stride = network.strides[level - 1], padding = padding_of(stride);
    const auto [first, last] = inputs_of(stride, begin, end);
    Strip input = strip(level - 1, first, last);
    for (int64_t t = std::max(begin, int64_t{0}); t < std::min(end, length(level)); ++t) {
      const int64_t i = floor_divide(t + padding, stride);
      operation({input.row(i), input.row(i - 1), stage.weight.data() + (t + padding - i * stride), stride, stage.bias,
                 network.bands, row(t), width, network.mel_scale});
    }
  }
};

}  // namespace

std::pair<int64_t, int64_t> frames_of(const std::vector<int>& strides, int64_t begin, int64_t end) {
  for (size_t level = strides.size(); level-- > 0;) std::tie(begin, end) = inputs_of(strides[level], begin, end);
  return {begin, end};
}

template <class E, class T>
void upsample_mel(const Network<E>& network, size_t upsampler, const Mel& mel, int64_t begin, int64_t end,
                  const Ring<T>& out) {
  const Upsampler<E> up{network, network.upsamplers[upsampler], mel};
  const size_t levels = network.strides.size();
  begin = std::max(begin, int64_t{0});
  end = std::min(end, up.length(levels));
  if (begin >= end) return;
  const auto run = [&](auto operation) {
    up.run(levels, begin, end, operation, [&](int64_t t) { return out.at(t); }, out.width);
  };
  if constexpr (std::is_same_v<T, E>)
    run(network.operations.upsample_row);
  else
    run(network.operations.upsample_row8);
  for (int64_t t = begin; t < end; ++t) out.mirror(t, 1);
}

template void upsample_mel(const Network<float>&, size_t, const Mel&, int64_t, int64_t, const Ring<float>&);
template void upsample_mel(const Network<Bf16>&, size_t, const Mel&, int64_t, int64_t, const Ring<Bf16>&);
template void upsample_mel(const Network<float>&, size_t, const Mel&, int64_t, int64_t, const Ring<uint8_t>&);
template void upsample_mel(const Network<Bf16>&, size_t, const Mel&, int64_t, int64_t, const Ring<uint8_t>&);

}  // namespace diffwave
