// The bf16 kernels for x86-64 with AMX (tile registers), and all that avx512bf16.cpp needs.
#include "tier.h"

#if defined(DIFFWAVE_AMX)
DIFFWAVE_TARGET_BEGIN("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16,amx-tile,amx-int8,amx-bf16")
namespace diffwave::amx {
namespace {
#include "vec_avx512.inl"
#include "vec_vnni.inl"
#include "vec_fp32.inl"
#include "vec_gate512.inl"
#include "vec_bf16.inl"
#include "vec_tiles.inl"
#include "all_kernels.inl"
#include "../matmul_tiles.inl"
#include "../conditioner_tiles.inl"
#include "../residual_block/direct_tiles.inl"

constexpr Operations<Bf16> with_tiles(Operations<Bf16> operations) {
  operations.project_conditioner = conditioner_on_tiles<ConditionerBf16<Bf16>>;
  operations.quantized_conditioner = conditioner_on_tiles<ConditionerInt8<Bf16>>;
  operations.direct_block = direct_on_tiles<Bf16>;
  operations.direct_int8_block = direct_on_tiles<Bf16>;
  operations.peak = tiles_peak<Bf16>;
  operations.peak8 = tiles_peak<uint8_t>;
  operations.tile_bytes = kTileBytes;
  return operations;
}
constexpr Operations<Bf16> kOnTiles = with_tiles(kOperations<Bf16>);
}  // namespace
}  // namespace diffwave::amx
DIFFWAVE_TARGET_END

// Outside the target region, because it runs on every processor.
namespace diffwave::amx {
Operations<Bf16> bf16() { return kOnTiles; }
}  // namespace diffwave::amx
#endif
