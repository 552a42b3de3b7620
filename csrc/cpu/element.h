// The element types in which rows and weights are kept: float, Bf16, and for products of bytes uint8_t rows with
// int8_t weights, which some tiers multiply as int16_t.
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

// Rounds to nearest, ties to even, as vcvtneps2bf16 does for normal numbers.
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

// To nearest, ties to even; the values are those of a weight that was divided by its scale.
template <>
inline int8_t from_float<int8_t>(float value) {
  return static_cast<int8_t>(std::nearbyintf(value));
}

template <>
inline int16_t from_float<int16_t>(float value) {
  return static_cast<int16_t>(std::nearbyintf(value));
}

// A row's byte stands for (byte - kZero) / scale; what is out of range is cut off.
constexpr int kZero = 128, kMostByte = 127;

inline int8_t to_byte(float value) { return static_cast<int8_t>(std::nearbyintf(std::clamp(value, -128.0f, 127.0f))); }

inline uint8_t quantize(float value, float scale) { return static_cast<uint8_t>(kZero + to_byte(value * scale)); }

// How many inputs one multiply-accumulate instruction takes per lane: vdpbf16ps takes two, vpdpbusd four.
template <class E>
constexpr int kGroup = 4 / static_cast<int>(sizeof(E));

// Where bytes are multiplied as words, the second and the third of four inputs change places.
inline long words_place(long k) { return k % 4 == 1 ? k + 1 : k % 4 == 2 ? k - 1 : k; }

// Values in a cache line.
template <class E>
constexpr int kLine = 64 / static_cast<int>(sizeof(E));

}  // namespace diffwave
