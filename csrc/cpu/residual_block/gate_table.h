// The gate of int8 layers in integer arithmetic, so that all tiers give the same bytes. Sigmoid and tanh are piecewise
// linear in the sigmoid's argument, with nodes a quarter apart from -8 to 8, and constant beyond;
// tanh(f) = 2 sigmoid(2 f) - 1.
#pragma once

#include <algorithm>
#include <cstdint>

namespace diffwave {

// Arguments (g of the sigmoid, 2 f of the tanh) are int16 in units of 1/kGateParts.
constexpr float kGateParts = 4096.0f;

// Converts an argument to an exponent of two: sigmoid(g) = 1 / (1 + 2^(kGateExponent g)).
constexpr float kGateExponent = -1.44269504f;

// Indexed by the six high bits of the argument: the value at the node in units of 1/32767, and the step to the next
// node.
struct GateTable {
  alignas(64) int16_t sigmoid[64];
  alignas(64) int16_t sigmoid_step[64];
  alignas(64) int16_t tanh[64];
  alignas(64) int16_t tanh_step[64];
  // The same for byte shuffles: [value low, value high, step low, step high][group of 16 nodes][sigmoid | tanh].
  alignas(64) uint8_t bytes[4][4][32];
};

const GateTable& gate_table();

// Rounds to nearest, ties to even, and saturates to int16.
inline int gate_argument(float argument) {
  constexpr float kMagic = 12582912.0f;
  return static_cast<int>((std::clamp(argument, -32768.0f, 32767.0f) + kMagic) - kMagic);
}

inline int interpolate(const int16_t* values, const int16_t* steps, int argument) {
  return values[argument >> 10 & 63] + (((argument & 1023) << 6) * steps[argument >> 10 & 63] >> 16);
}

// a * b / 2^15, rounded to nearest: vpmulhrsw.
inline int rounded_product(int a, int b) { return (a * b + (1 << 14)) >> 15; }

// sigmoid(g) * tanh(f) in units of 1/127, plus kZeroPoint.
inline uint8_t gated_uint8(float g, float twice_f, const GateTable& table) {
  const int sigmoid = interpolate(table.sigmoid, table.sigmoid_step, gate_argument(g));
  const int tanh = interpolate(table.tanh, table.tanh_step, gate_argument(twice_f));
  return static_cast<uint8_t>(128 + rounded_product(rounded_product(sigmoid, tanh), 127));
}

}  // namespace diffwave
