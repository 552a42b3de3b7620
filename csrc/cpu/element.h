// The element types of rows and weights: float, Bf16, and for int8 precision uint8_t rows with int8_t weights, which
// some tiers multiply as int16_t.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

namespace diffwave {

struct Bf16 {
  uint16_t bits;
};

inline float to_float(float value) { return value; }

inline float to_float(Bf16 value) {
  uint32_t wide = static_cast<uint32_t>(value.bits) << 16;
  float result;
  std::memcpy(&result, &wide, sizeof result);
  return result;
}

// Converts to an element type. Bf16 rounds to nearest, ties to even, like vcvtneps2bf16 for normal numbers.
template <class E>
E from_float(float value);

template <>
inline float from_float<float>(float value) {
  return value;
}

template <>
inline Bf16 from_float<Bf16>(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return {static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16)};
}

// Rounds a weight divided by its scale to nearest, ties to even.
template <>
inline int8_t from_float<int8_t>(float value) {
  return static_cast<int8_t>(std::nearbyintf(value));
}

template <>
inline int16_t from_float<int16_t>(float value) {
  return static_cast<int16_t>(std::nearbyintf(value));
}

// A uint8 q of a row represents (q - kZeroPoint) / scale. Values out of range saturate.
constexpr int kZeroPoint = 128, kInt8Max = 127;

inline int8_t to_int8(float value) { return static_cast<int8_t>(std::nearbyintf(std::clamp(value, -128.0f, 127.0f))); }

inline uint8_t quantize(float value, float scale) { return static_cast<uint8_t>(kZeroPoint + to_int8(value * scale)); }

// Inputs per lane of one multiply-accumulate instruction: two for vdpbf16ps, four for vpdpbusd.
template <class E>
constexpr int kGroup = 4 / static_cast<int>(sizeof(E));

// The order of inputs for tiers that multiply int8 as int16: swaps the second and the third of every four.
inline int64_t int16_order(int64_t k) { return k % 4 == 1 ? k + 1 : k % 4 == 2 ? k - 1 : k; }

// Values per cache line.
template <class E>
constexpr int kCacheLine = 64 / static_cast<int>(sizeof(E));

}  // namespace diffwave
