// Any processor.
#include "tier.h"

namespace diffwave::generic {
namespace {
#include "vec_generic.inl"
#include "vec_fp32.inl"
#include "vec_bytes.inl"
#include "operations.inl"
}  // namespace

Operations<float> fp32() { return kOperations<float>; }
}  // namespace diffwave::generic
