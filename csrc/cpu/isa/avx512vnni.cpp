// The kernels for x86-64 with AVX-512 and VNNI (int8 dot product).
#include "tier.h"

#if defined(__x86_64__)
DIFFWAVE_TARGET_BEGIN("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")
namespace diffwave::avx512vnni {
namespace {
#include "vec_avx512.inl"
#include "vec_vnni.inl"
#include "vec_fp32.inl"
#include "vec_gate512.inl"
#include "all_kernels.inl"
}  // namespace
}  // namespace diffwave::avx512vnni
DIFFWAVE_TARGET_END

// Outside the target region, because it runs on every processor.
namespace diffwave::avx512vnni {
Operations<float> fp32() { return kOperations<float>; }
}  // namespace diffwave::avx512vnni
#endif
