// The kernels for any processor.
#include "tier.h"

namespace diffwave::generic {
namespace {
#include "vec_generic.inl"
#include "vec_fp32.inl"
#include "vec_gate_scalar.inl"
#include "all_kernels.inl"
}  // namespace

Operations<float> fp32() { return kOperations<float>; }
}  // namespace diffwave::generic
