#include "gate_table.h"

#include <cmath>

namespace diffwave {
namespace {

GateTable make_table() {
  const auto fill = [](int16_t* values, int16_t* steps, int32_t* pairs, auto function) {
    const auto at = [&](int quarters) { return static_cast<int>(std::lround(32767.0 * function(quarters / 4.0))); };
    for (int quarters = -32; quarters < 32; ++quarters) {
      values[quarters & 63] = static_cast<int16_t>(at(quarters));
      steps[quarters & 63] = static_cast<int16_t>(at(quarters + 1) - at(quarters));
      pairs[quarters & 63] = values[quarters & 63] * 65536 + steps[quarters & 63];
    }
  };
  GateTable table{};
  fill(table.sigmoid, table.sigmoid_step, table.sigmoid_pairs, [](double x) { return 1.0 / (1.0 + std::exp(-x)); });
  fill(table.tanh, table.tanh_step, table.tanh_pairs, [](double x) { return std::tanh(x / 2.0); });
  return table;
}

}  // namespace

const GateTable& gate_table() {
  static const GateTable table = make_table();
  return table;
}

}  // namespace diffwave
