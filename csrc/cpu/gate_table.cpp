#include "gate_table.h"

#include <cmath>

namespace diffwave {
namespace {

GateTable make_table() {
  const auto fill = [](int16_t* values, int16_t* steps, auto function) {
    const auto at = [&](int quarters) { return static_cast<int>(std::lround(32767.0 * function(quarters / 4.0))); };
    for (int quarters = -32; quarters < 32; ++quarters) {
      values[quarters & 63] = static_cast<int16_t>(at(quarters));
      steps[quarters & 63] = static_cast<int16_t>(at(quarters + 1) - at(quarters));
    }
  };
  GateTable table{};
  fill(table.sigmoid, table.sigmoid_step, [](double x) { return 1.0 / (1.0 + std::exp(-x)); });
  fill(table.tanh, table.tanh_step, [](double x) { return std::tanh(x / 2.0); });
  return table;
}

}  // namespace

const GateTable& gate_table() {
  static const GateTable table = make_table();
  return table;
}

}  // namespace diffwave
