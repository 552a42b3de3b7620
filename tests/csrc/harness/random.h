// The random number generator of a test case. All that a case draws follows from its seed.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <vector>

namespace harness {

using Floats = std::vector<float>;

// splitmix64
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) { state_ = next(); }

  uint64_t next() {
    uint64_t z = state_ += 0x9E3779B97F4A7C15;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
    return z ^ (z >> 31);
  }
  long below(long count) { return static_cast<long>(next() % static_cast<uint64_t>(count)); }
  long between(long low, long high) { return low + below(high - low + 1); }  // inclusive
  bool chance(int percent) { return below(100) < percent; }
  long pick(std::initializer_list<long> values) { return values.begin()[below(static_cast<long>(values.size()))]; }
  double fraction() { return static_cast<double>(next() >> 11) * 0x1p-53; }

  // Log-uniform: every order of magnitude is equally likely.
  long spread(long low, long high) {
    const double ratio = static_cast<double>(high + 1) / static_cast<double>(low);
    return std::min(high, static_cast<long>(static_cast<double>(low) * std::pow(ratio, fraction())));
  }

  // Uniform values of mean 0 and the given variance.
  Floats values(size_t count, double variance = 1.0) {
    Floats out(count);
    const float width = static_cast<float>(std::sqrt(12.0 * variance) * 0x1p-24);
    for (float& value : out) value = (static_cast<float>(next() >> 40) - 0x1p23f) * width;
    return out;
  }

 private:
  uint64_t state_;
};

}  // namespace harness
