// Fills the argument struct of a residual layer from a network and the caller's memory, and runs the layer's kernel.
#pragma once

#include "../network.h"
#include "../share.h"

namespace diffwave {

// The rows that enter one layer at one step, and the constants of that layer and step. x8, padding8 and step_row8 exist
// only in quantized layers.
template <class E>
struct LayerRows {
  Ring<E> x;                      // rows [C]
  Ring<uint8_t> x8;               // the same rows, quantized
  int64_t reach = 0;              // rows of padding on each side of the audio
  E* padding = nullptr;           // [C]: -d
  uint8_t* padding8 = nullptr;    // [C]: -d, quantized
  float* step_row = nullptr;      // [2C]: Network::step_row
  int32_t* step_row8 = nullptr;   // [2C]: Network::quantized_step_row
  float* residual_row = nullptr;  // [C]: Network::residual_row

  Edges<E> edges(bool reflect) const { return {padding, reach, reflect}; }
  Edges<uint8_t> edges8(bool reflect) const { return {padding8, reach, reflect}; }
};

// Conditioner rows [2C] of one layer: int8 in quantized layers of networks with a mel, E otherwise.
template <class E>
struct ConditionerRows {
  Ring<E> rows;
  Ring<int8_t> rows8;
};

// The caller's memory for one residual layer.
template <class E>
struct BlockMemory {
  const LayerRows<E>&input, &output;
  Ring<float> skip;  // rows [C]; int32 in int8 networks
  const ConditionerRows<E>&conditioner, &next_conditioner;
  int64_t next_begin;  // the row at which the next layer starts
  E* scratch;          // scratch_size(C)
  uint8_t* scratch8;   // [kScratchRows][C], in int8 networks
};

template <class E>
QuantizedBlock<E> make_block(const Network<E>& network, size_t layer, const BlockMemory<E>& memory);

// Runs a thread's share of a residual layer by the kernel that suits the network and the layer.
template <class E>
void run_block(const Network<E>& network, size_t layer, const QuantizedBlock<E>& block, const Share& share);

}  // namespace diffwave
