// The kernels for x86-64 with AVX2 and FMA.
#include "tier.h"

#if defined(__x86_64__)
DIFFWAVE_TARGET_BEGIN("avx2,fma")
namespace diffwave::avx2 {
namespace {
#include "vec_avx2.inl"
#include "vec_madd256.inl"
#include "vec_fp32.inl"
#include "vec_gate256.inl"
#include "all_kernels.inl"
}  // namespace
}  // namespace diffwave::avx2
DIFFWAVE_TARGET_END

// Outside the target region, because it runs on every processor.
namespace diffwave::avx2 {
Operations<float> fp32() { return kOperations<float>; }
}  // namespace diffwave::avx2
#endif
