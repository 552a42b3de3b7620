// The rate of a tier's peak (peak.inl) on several threads.
#pragma once

#include <cstdint>

namespace diffwave {

// Multiply-accumulates per second of `threads` threads together, measured over at least half of `seconds`. `peak`
// computes a number of rounds and returns their multiply-accumulates.
double measure_peak(double (*peak)(int64_t rounds), int threads, double seconds);

}  // namespace diffwave
