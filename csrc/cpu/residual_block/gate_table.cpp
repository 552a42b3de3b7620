// Computes the nodes and steps of gate_table.h in double precision.
#include "gate_table.h"

#include <cmath>

namespace diffwave {
namespace {

GateTable make_table() {
  GateTable table{};
  const auto fill = [&](int16_t* values, int16_t* steps, int first, auto function) {
    const auto node = [&](int quarters) { return static_cast<int>(std::lround(32767.0 * function(quarters / 4.0))); };
    for (int quarters = -32; quarters < 32; ++quarters) {
      const int index = quarters & 63, value = node(quarters), step = node(quarters + 1) - value;
      values[index] = static_cast<int16_t>(value);
      steps[index] = static_cast<int16_t>(step);
      const int parts[4] = {value, value >> 8, step, step >> 8};
      for (int i = 0; i < 4; ++i) table.bytes[i][index / 16][first + index % 16] = static_cast<uint8_t>(parts[i]);
    }
  };
  fill(table.sigmoid, table.sigmoid_step, 0, [](double x) { return 1.0 / (1.0 + std::exp(-x)); });
  fill(table.tanh, table.tanh_step, 16, [](double x) { return std::tanh(x / 2.0); });
  return table;
}

}  // namespace

const GateTable& gate_table() {
  static const GateTable table = make_table();
  return table;
}

}  // namespace diffwave
