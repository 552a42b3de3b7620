// Bitwise comparison of results.
#pragma once

#include <cstring>
#include <stdexcept>
#include <string>

#include "random.h"

namespace harness {

// A failed comparison: the first differing value, and the description of the case.
struct Difference : std::runtime_error {
  using std::runtime_error::runtime_error;
};

inline void compare(const float* expected, const float* got, size_t count, const std::string& label) {
  if (std::memcmp(expected, got, count * sizeof(float)) == 0) return;
  size_t i = 0;
  while (std::memcmp(expected + i, got + i, sizeof(float)) == 0) ++i;
  char text[100];
  std::snprintf(text, sizeof text, "value %zu of %zu is %.9g, expected %.9g: ", i, count, got[i], expected[i]);
  throw Difference(text + label);
}

inline void compare(const Floats& expected, const Floats& got, const std::string& label) {
  if (expected.size() != got.size())
    throw Difference("expected " + std::to_string(expected.size()) + " values, got " + std::to_string(got.size()) +
                     ": " + label);
  compare(expected.data(), got.data(), expected.size(), label);
}

// Catches reads of unwritten memory (filled with NaN) that all executions have in common.
inline void expect_finite(const Floats& values, const std::string& label) {
  for (size_t i = 0; i < values.size(); ++i)
    if (!std::isfinite(values[i])) throw Difference("value " + std::to_string(i) + " is not finite: " + label);
}

}  // namespace harness
