// The gate of layers that compute with bytes, in whole numbers, so that every tier gives the same bytes. Sigmoid and
// tanh are straight lines between points a quarter apart in the sigmoid's argument, from -8 to 8, and constant beyond;
// tanh(f) = 2 sigmoid(2 f) - 1.
#pragma once

#include <algorithm>
#include <cstdint>

namespace diffwave {

// Arguments are words, in so many parts of 1: g of the sigmoid, 2 f of the tanh.
constexpr float kGateParts = 4096.0f;

// The exponent of two that belongs to an argument of 1: sigmoid(g) = 1 / (1 + 2^(kGateExponent g)).
constexpr float kGateExponent = -1.44269504f;

// By the six high bits of the argument: the value there, in 32767 parts, and the step to the next.
struct GateTable {
  alignas(64) int16_t sigmoid[64];
  alignas(64) int16_t sigmoid_step[64];
  alignas(64) int16_t tanh[64];
  alignas(64) int16_t tanh_step[64];
  // For shuffles of bytes: those of the values, low and high, and of the steps; sixteen entries at a time, of the
  // sigmoid and of the tanh.
  alignas(64) uint8_t bytes[4][4][32];
};

const GateTable& gate_table();

// To nearest, ties to even.
inline int gate_word(float argument) {
  constexpr float kMagic = 12582912.0f;
  return static_cast<int>((std::clamp(argument, -32768.0f, 32767.0f) + kMagic) - kMagic);
}

inline int on_line(const int16_t* values, const int16_t* steps, int word) {
  return values[word >> 10 & 63] + (((word & 1023) << 6) * steps[word >> 10 & 63] >> 16);
}

inline int product_of_words(int a, int b) { return (a * b + (1 << 14)) >> 15; }

// sigmoid(g) * tanh(f), 127 parts, + kZero
inline uint8_t gated_byte(float g, float twice_f, const GateTable& table) {
  const int sigmoid = on_line(table.sigmoid, table.sigmoid_step, gate_word(g));
  const int tanh = on_line(table.tanh, table.tanh_step, gate_word(twice_f));
  return static_cast<uint8_t>(128 + product_of_words(product_of_words(sigmoid, tanh), 127));
}

}  // namespace diffwave
