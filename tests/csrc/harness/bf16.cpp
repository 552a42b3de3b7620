// An emulated bf16 tier for any processor, to test bf16 where no real tier supports it. As in vec_bf16.inl, a vector of
// weights holds two inputs per lane.
#include "cpu/isa/tier.h"

namespace diffwave::emulated {
namespace {

#include "cpu/isa/vec_generic.inl"
#include "cpu/isa/vec_fp32.inl"
#include "cpu/isa/vec_gate_scalar.inl"

DIFFWAVE_INLINE Vec load(const Bf16* p) { return Vec{to_float(p[0]), to_float(p[1]), to_float(p[2]), to_float(p[3])}; }
DIFFWAVE_INLINE void store(Bf16* p, Vec v) {
  for (int lane = 0; lane < kWidth; ++lane) p[lane] = from_float<Bf16>(v[lane]);
}
DIFFWAVE_INLINE Vec load_weights(const Bf16* p) {
  Vec v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}
DIFFWAVE_INLINE Vec broadcast_group(const Bf16* p) {
  float pair;
  __builtin_memcpy(&pair, p, sizeof pair);
  return broadcast(pair);
}
DIFFWAVE_INLINE Vec first_inputs(Vec v) { return (Vec)((VecInt)v << 16); }
DIFFWAVE_INLINE Vec second_inputs(Vec v) { return (Vec)((VecInt)v & static_cast<int32_t>(0xffff0000)); }
DIFFWAVE_INLINE Vec dot(Vec acc, Vec x, Vec w, const Bf16*) {
  return acc + first_inputs(x) * first_inputs(w) + second_inputs(x) * second_inputs(w);
}
DIFFWAVE_INLINE Vec quotient(Vec a, Vec b, const Bf16*) { return a / b; }
DIFFWAVE_INLINE Vec exp2_fraction(Vec f, const Bf16*) { return exp2_fraction(f, static_cast<const float*>(nullptr)); }

#include "cpu/isa/all_kernels.inl"

}  // namespace

Operations<Bf16> bf16() { return kOperations<Bf16>; }

}  // namespace diffwave::emulated
