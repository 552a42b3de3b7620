// 64-bit Arm: NEON belongs to all of it, so no target region is needed.
#include "tier.h"

#if defined(__aarch64__)
#if !defined(__clang__)
// GCC's first scheduling pass, which x86 does not have, loads so far ahead that accumulators go to the stack.
#pragma GCC optimize("no-schedule-insns")
#endif
namespace diffwave::neon {
namespace {
#include "vec_neon.inl"
#include "vec_mull128.inl"
#include "vec_fp32.inl"
#include "vec_gate128.inl"
#include "operations.inl"
}  // namespace

Operations<float> fp32() { return kOperations<float>; }
}  // namespace diffwave::neon
#endif
