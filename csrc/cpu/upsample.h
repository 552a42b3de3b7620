// The mel upsampler (paper, section 3.2): transposed convolutions over (band, time), each followed by a leaky ReLU.
#pragma once

#include <utility>
#include <vector>

#include "network.h"

namespace diffwave {

// A mel where the caller left it: data[band * band_stride + (frame - first) * frame_stride], strides in floats. Of its
// `frames` those from `first` on are at hand, as many as are asked for.
struct Mel {
  const float* data = nullptr;
  long band_stride = 0, frame_stride = 0, frames = 0, first = 0;
};

// The frames [begin, end) that rows [begin, end) of the upsampled mel are made of, whether they exist or not.
std::pair<long, long> frames_of(const std::vector<int>& strides, long begin, long end);

// Rows [begin, end) of the mel stretched by one of the network's upsamplers, clipped to the audio, into `out`. Any
// range gives the same values. T is E, or uint8_t in a network that is quantized.
template <class E, class T>
void upsample_mel(const Network<E>& network, size_t upsampler, const Mel& mel, long begin, long end,
                  const Ring<T>& out);

}  // namespace diffwave
