// The bf16 kernels for x86-64 with AVX-512, VNNI (int8 dot product) and BF16 (bf16 dot product).
#include "tier.h"

#if defined(__x86_64__)
DIFFWAVE_TARGET_BEGIN("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16")
namespace diffwave::avx512bf16 {
namespace {
#include "vec_avx512.inl"
#include "vec_vnni.inl"
#include "vec_fp32.inl"
#include "vec_gate512.inl"
#include "vec_bf16.inl"
#include "all_kernels.inl"
}  // namespace
}  // namespace diffwave::avx512bf16
DIFFWAVE_TARGET_END

// Outside the target region, because it runs on every processor.
namespace diffwave::avx512bf16 {
Operations<Bf16> bf16() { return kOperations<Bf16>; }
}  // namespace diffwave::avx512bf16
#endif
