// Bytes that must be the same.
#pragma once

#include <cstring>
#include <stdexcept>
#include <string>

#include "random.h"

namespace harness {

// What a case found, and of what.
struct Difference : std::runtime_error {
  using std::runtime_error::runtime_error;
};

inline void compare(const float* expected, const float* got, size_t count, const std::string& what) {
  if (std::memcmp(expected, got, count * sizeof(float)) == 0) return;
  size_t i = 0;
  while (std::memcmp(expected + i, got + i, sizeof(float)) == 0) ++i;
  char text[100];
  std::snprintf(text, sizeof text, "value %zu of %zu is %.9g, expected %.9g: ", i, count, got[i], expected[i]);
  throw Difference(text + what);
}

inline void compare(const Floats& expected, const Floats& got, const std::string& what) {
  if (expected.size() != got.size()) throw Difference("another number of values: " + what);
  compare(expected.data(), got.data(), expected.size(), what);
}

// What is NaN where memory was used that nobody wrote could be NaN in every way of computing it.
inline void expect_finite(const Floats& values, const std::string& what) {
  for (size_t i = 0; i < values.size(); ++i)
    if (!std::isfinite(values[i])) throw Difference("value " + std::to_string(i) + " is not finite: " + what);
}

}  // namespace harness
