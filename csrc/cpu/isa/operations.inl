// All operations of one tier in one precision, for the tier's Vec.
#include "../matmul.inl"
#include "../gate.inl"
#include "../edges.inl"
#include "../upsample_row.inl"
#include "../project_conditioner.inl"
#include "../input_projection.inl"
#include "../residual_block.inl"
#include "../output_head.inl"
#include "../peak.inl"

template <class E>
Operations<E> operations() {
  return {upsample_row<float>,
          upsample_row<E>,
          project_conditioner<E>,
          input_projection<E>,
          residual_block<E>,
          output_head,
          peak<E>,
          kWidth};
}
