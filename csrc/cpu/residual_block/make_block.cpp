#include "make_block.h"

namespace diffwave {

template <class E>
QuantizedBlock<E> make_block(const Network<E>& network, size_t layer, const BlockMemory<E>& memory) {
  const Layer<E>& weights = network.layers[layer];
  const bool first = layer == 0, last = layer + 1 == network.layers.size();
  QuantizedBlock<E> block{};
  block.channels = network.channels;
  block.dilation = weights.dilation;
  block.x = memory.input.x;
  block.y = memory.output.x;
  block.skip = memory.skip;
  block.conditioner = memory.conditioner.rows;
  block.step_bias = memory.input.step_row;
  block.dilated = weights.dilated;
  block.projection = weights.projection;
  block.residual_bias = memory.input.residual_row;
  block.skip_start = first ? network.skip_start : nullptr;
  block.scratch = memory.scratch;
  block.edges = memory.output.edges(network.reflect);
  block.next_conditioner = memory.next_conditioner.rows;
  block.next_begin = memory.next_begin;
  if (!network.int8()) return block;
  const Int8Layer& int8_layer = network.int8_layers[layer];
  block.x8 = memory.input.x8;
  block.y8 = memory.output.x8;
  block.conditioner8 = memory.conditioner.rows8;
  block.next_conditioner8 = memory.next_conditioner.rows8;
  block.conditioner_shift = int8_layer.conditioner_shift;
  block.dilated8 = int8_layer.dilated;
  block.projection8 = int8_layer.projection;
  block.dilated16 = int8_layer.dilated16;
  block.projection16 = int8_layer.projection16;
  block.dilated_start = memory.input.step_row8;
  block.gate_scale = int8_layer.gate_scale;
  block.projection_scale = int8_layer.projection_scale;
  block.residual_start = int8_layer.residual_correction;
  block.sum_start = first ? network.sum_start : nullptr;
  block.sum_scale = last ? network.sum_scale : nullptr;
  block.y_scale = network.int8_layers[last ? layer : layer + 1].scale;
  block.gate = &gate_table();
  block.scratch8 = memory.scratch8;
  block.edges8 = memory.output.edges8(network.reflect);
  return block;
}

template <class E>
void run_block(const Network<E>& network, size_t layer, const QuantizedBlock<E>& block, const Share& share) {
  const Operations<E>& kernels = network.operations;
  if (network.uses_winograd(layer)) {
    const auto run = [&](auto kernel) { kernel(block, share.rows_of_pairs(), share.pairs(block.dilation)); };
    network.int8() ? run(kernels.winograd_int8_block) : run(kernels.winograd_block);
  } else {
    const auto run = [&](auto kernel) { kernel(block, share.rows()); };
    network.int8() ? run(kernels.direct_int8_block) : run(kernels.direct_block);
  }
}

template QuantizedBlock<float> make_block(const Network<float>&, size_t, const BlockMemory<float>&);
template QuantizedBlock<Bf16> make_block(const Network<Bf16>&, size_t, const BlockMemory<Bf16>&);
template void run_block(const Network<float>&, size_t, const QuantizedBlock<float>&, const Share&);
template void run_block(const Network<Bf16>&, size_t, const QuantizedBlock<Bf16>&, const Share&);

}  // namespace diffwave
