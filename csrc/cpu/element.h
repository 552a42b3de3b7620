// The two element types in which rows and weights are kept.
#pragma once

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

// How many inputs one multiply-accumulate instruction takes per lane: vdpbf16ps takes two.
template <class E>
constexpr int kGroup = sizeof(E) == 2 ? 2 : 1;

}  // namespace diffwave
