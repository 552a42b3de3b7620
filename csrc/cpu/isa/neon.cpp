// The kernels for 64-bit Arm. All such processors have NEON, so no target region is needed.
#include "tier.h"

#if defined(__aarch64__)
#if !defined(__clang__)
// GCC's first scheduling pass (absent on x86) moves loads so far ahead that accumulators spill to the stack.
#pragma GCC optimize("no-schedule-insns")
#endif
namespace diffwave::neon {
namespace {
#include "vec_neon.inl"
#include "vec_mull128.inl"
#include "vec_fp32.inl"
#include "vec_gate128.inl"
#include "all_kernels.inl"
}  // namespace

Operations<float> fp32() { return kOperations<float>; }
}  // namespace diffwave::neon
#endif
