// All operations of one tier in one precision, for the tier's Vec.
#include "../matmul.inl"
#include "../gate.inl"
#include "../edges.inl"
#include "../upsample_row.inl"
#include "../project_conditioner.inl"
#include "../input_projection.inl"
#include "../residual_block.inl"
#include "../quantized_block.inl"
#include "../paired_rows.inl"
#include "../paired_fp32.inl"
#include "../paired_bytes.inl"
#include "../paired_block.inl"
#include "../block.inl"
#include "../output_head.inl"
#include "../peak.inl"

// Winograd's products are for fp32: they want more bits than bf16 has.
template <class E>
constexpr auto kResidualBlock = residual_block<ResidualBlock<E>>;
template <>
constexpr auto kResidualBlock<float> = nullptr;
template <class E>
constexpr auto kPairedBlock = nullptr;
template <>
constexpr auto kPairedBlock<float> = paired_block<Fp32Pairs>;

template <class E>
constexpr auto kPairedQuantizedBlock = nullptr;
template <>
constexpr auto kPairedQuantizedBlock<float> = paired_quantized_block<float>;

// Products of bytes, by rows; where bytes are multiplied as words, pairs take their place.
template <class E, bool words>
constexpr auto kQuantizedBlock = residual_block<QuantizedBlock<E>>;
template <class E>
constexpr auto kQuantizedBlock<E, true> = nullptr;

// Data, not code: a function in here could use the tier's instructions before anybody knows whether they are there.
template <class E>
constexpr Operations<E> kOperations = {upsample_row<float>,
                                       upsample_row<E>,
                                       upsample_row<uint8_t>,
                                       project_conditioner<ProjectConditioner<E>>,
                                       project_conditioner<QuantizedConditioner<E>>,
                                       input_projection<E>,
                                       kResidualBlock<E>,
                                       kPairedBlock<E>,
                                       kQuantizedBlock<E, kWords>,
                                       kPairedQuantizedBlock<E>,
                                       output_head,
                                       peak<E>,
                                       peak<std::conditional_t<kWords, int16_t, uint8_t>>,
                                       kWidth,
                                       kDotZero,
                                       kWords};
