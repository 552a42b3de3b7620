// The kernels for x86-64 with AVX-512 F, BW, DQ and VL.
#include "tier.h"

#if defined(__x86_64__)
DIFFWAVE_TARGET_BEGIN("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")
namespace diffwave::avx512 {
namespace {
#include "vec_avx512.inl"
#include "vec_madd512.inl"
#include "vec_fp32.inl"
#include "vec_gate512.inl"
#include "all_kernels.inl"
}  // namespace
}  // namespace diffwave::avx512
DIFFWAVE_TARGET_END

// Outside the target region, because it runs on every processor.
namespace diffwave::avx512 {
Operations<float> fp32() { return kOperations<float>; }
}  // namespace diffwave::avx512
#endif
