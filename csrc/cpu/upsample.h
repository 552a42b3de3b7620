// The mel upsampler (paper, section 3.2): transposed convolutions over (band, time), each followed by a leaky ReLU.
#pragma once

#include <utility>
#include <vector>

#include "network.h"

namespace diffwave {

// A mel in the caller's memory: data[band * band_stride + (frame - first) * frame_stride], strides in floats. `frames`
// is its total length; the memory holds the frames from `first` on, as many as the call needs.
struct Mel {
  const float* data = nullptr;
  int64_t band_stride = 0, frame_stride = 0, frames = 0, first = 0;
};

// The frames [first, last) that rows [begin, end) of the upsampled mel depend on. They may lie outside the mel.
std::pair<int64_t, int64_t> frames_of(const std::vector<int>& strides, int64_t begin, int64_t end);

// Computes rows [begin, end), clipped to the audio, of the mel upsampled by one of the network's upsamplers, into
// `out`. Values do not depend on the range. T is E, or uint8_t in an int8 network.
template <class E, class T>
void upsample_mel(const Network<E>& network, size_t upsampler, const Mel& mel, int64_t begin, int64_t end,
                  const Ring<T>& out);

}  // namespace diffwave
