#include "upsample.h"

#include <algorithm>

namespace diffwave {
namespace {

constexpr float kSlope = 0.4f;  // of the leaky ReLU

// Rows of bands with one zero band on each side, for times [begin, end); times outside the signal are zero rows.
struct Strip {
  long begin, end, width;
  std::vector<float> values;

  Strip(long begin, long end, int bands)
      : begin(begin), end(end), width(bands + 2), values(static_cast<size_t>((end - begin) * width)) {}
  float* row(long t) { return values.data() + (t - begin) * width + 1; }
};

long floor_divide(long a, long b) { return a >= 0 ? a / b : -((b - 1 - a) / b); }

Strip frames(const Mel& mel, int bands, long begin, long end) {
  Strip strip(begin, end, bands);
  for (long t = std::max(begin, 0L); t < std::min(end, mel.frames); ++t)
    for (int m = 0; m < bands; ++m) strip.row(t)[m] = mel.data[m * mel.band_stride + t * mel.frame_stride];
  return strip;
}

// Output t = i * stride - stride / 2 + k, 0 <= k < 2 * stride: two inputs i reach every output.
template <class E>
Strip stage(const Network<E>& network, const Mel& mel, int level, long begin, long end) {
  if (level == 0) return frames(mel, network.bands, begin, end);
  const long stride = network.strides[static_cast<size_t>(level - 1)], half = stride / 2;
  long length = mel.frames;
  for (int l = 0; l < level; ++l) length *= network.strides[static_cast<size_t>(l)];
  Strip input =
      stage(network, mel, level - 1, floor_divide(begin + half, stride) - 1, floor_divide(end - 1 + half, stride) + 1);
  Strip out(begin, end, network.bands);
  const float* weight = network.upsample_weight[static_cast<size_t>(level - 1)].data();
  const float bias = network.upsample_bias[static_cast<size_t>(level - 1)];
  for (long t = std::max(begin, 0L); t < std::min(end, length); ++t) {
    const long i = floor_divide(t + half, stride), k = t + half - i * stride;
    const float *newer = input.row(i), *older = input.row(i - 1);
    float* row = out.row(t);
    for (int m = 0; m < network.bands; ++m) {
      float sum = bias;
      for (int tap = 0; tap < 3; ++tap) {
        sum = sum + weight[tap * 2 * stride + k] * newer[m + 1 - tap];
        sum = sum + weight[tap * 2 * stride + k + stride] * older[m + 1 - tap];
      }
      row[m] = sum > 0.0f ? sum : kSlope * sum;
    }
  }
  return out;
}

}  // namespace

template <class E>
void upsample_mel(const Network<E>& network, const Mel& mel, long begin, long end, const Ring<E>& out) {
  const int levels = static_cast<int>(network.strides.size());
  begin = std::max(begin, 0L);
  long length = mel.frames;
  for (int stride : network.strides) length *= stride;
  end = std::min(end, length);
  if (begin >= end) return;
  Strip strip = stage(network, mel, levels, begin, end);
  for (long t = begin; t < end; ++t) {
    E* row = out.at(t);
    for (int m = 0; m < network.bands; ++m) row[m] = from_float<E>(strip.row(t)[m]);
    std::fill(row + network.bands, row + out.width, from_float<E>(0.0f));
    out.mirror(t, 1);
  }
}

template void upsample_mel(const Network<float>&, const Mel&, long, long, const Ring<float>&);
template void upsample_mel(const Network<Bf16>&, const Mel&, long, long, const Ring<Bf16>&);

}  // namespace diffwave
