// Compiles all kernels for one tier: for its Vec, its int8 dot product and its gate.
#include "../matmul.inl"
#include "../residual_block/gate.inl"
#include "../edges.inl"
#include "../upsample_row.inl"
#include "../project_conditioner.inl"
#include "../input_projection.inl"
#include "../residual_block/direct_bf16.inl"
#include "../residual_block/direct_int8.inl"
#include "../residual_block/winograd_rows.inl"
#include "../residual_block/winograd_fp32.inl"
#include "../residual_block/winograd_int8.inl"
#include "../residual_block/winograd.inl"
#include "../residual_block/loop.inl"
#include "../output_head.inl"
#include "../peak.inl"

// fp32 uses Winograd. bf16 does not: Winograd's transformed inputs and weights need more bits than bf16 has.
template <class E>
constexpr auto kDirectBlock = direct_block<ResidualBlock<E>>;
template <>
constexpr auto kDirectBlock<float> = nullptr;
template <class E>
constexpr auto kWinogradBlock = nullptr;
template <>
constexpr auto kWinogradBlock<float> = winograd_block<WinogradFp32>;

template <class E>
constexpr auto kWinogradInt8Block = nullptr;
template <>
constexpr auto kWinogradInt8Block<float> = winograd_int8_block<float>;

// Quantized layers use the direct block. On tiers that multiply int16, Winograd replaces it.
template <class E, bool int16_products>
constexpr auto kDirectInt8Block = direct_block<QuantizedBlock<E>>;
template <class E>
constexpr auto kDirectInt8Block<E, true> = nullptr;

// A constant, not a function: code in this region may use the tier's instructions, and the table is read before the
// processor is checked.
template <class E>
constexpr Operations<E> kOperations = {upsample_row<float>,
                                       upsample_row<E>,
                                       upsample_row<uint8_t>,
                                       project_conditioner<ProjectConditioner<E>>,
                                       project_conditioner<QuantizedConditioner<E>>,
                                       input_projection<E>,
                                       kDirectBlock<E>,
                                       kWinogradBlock<E>,
                                       kDirectInt8Block<E, kInt16Products>,
                                       kWinogradInt8Block<E>,
                                       output_head,
                                       peak<E>,
                                       peak<std::conditional_t<kInt16Products, int16_t, uint8_t>>,
                                       kWidth,
                                       kDotZeroPoint,
                                       kInt16Products};
