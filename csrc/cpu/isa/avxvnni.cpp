// The kernels for x86-64 with AVX2, FMA and AVX-VNNI (int8 dot product on processors without AVX-512).
#include "tier.h"

#if defined(DIFFWAVE_AVXVNNI)
DIFFWAVE_TARGET_BEGIN("avx2,fma")
namespace diffwave::avxvnni {
namespace {
#include "vec_avx2.inl"
#include "vec_vnni256.inl"
#include "vec_fp32.inl"
#include "vec_gate256.inl"
#include "all_kernels.inl"
}  // namespace
}  // namespace diffwave::avxvnni
DIFFWAVE_TARGET_END

// Outside the target region, because it runs on every processor.
namespace diffwave::avxvnni {
Operations<float> fp32() { return kOperations<float>; }
}  // namespace diffwave::avxvnni
#endif
