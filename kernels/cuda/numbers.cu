// Pairs of 16-bit numbers, the gate, and copies into shared memory, for the CUDA kernels. Macro: BF16 for bf16 instead
// of fp16.

typedef unsigned int u32;
typedef unsigned long long u64;

// The lower and the upper number of a pair.
__device__ __forceinline__ float low(u32 pair) {
#ifdef BF16
  return __uint_as_float(pair << 16);
#else
  float x;
  asm("{.reg .b16 a, b; mov.b32 {a, b}, %1; cvt.f32.f16 %0, a;}" : "=f"(x) : "r"(pair));
  return x;
#endif
}

__device__ __forceinline__ float high(u32 pair) {
#ifdef BF16
  return __uint_as_float(pair & 0xffff0000u);
#else
  float x;
  asm("{.reg .b16 a, b; mov.b32 {a, b}, %1; cvt.f32.f16 %0, b;}" : "=f"(x) : "r"(pair));
  return x;
#endif
}

__device__ __forceinline__ u32 pack(float lo, float hi) {
  u32 pair;
#ifdef BF16
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(hi), "f"(lo));
#else
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(hi), "f"(lo));
#endif
  return pair;
}

__device__ __forceinline__ float tanh_of(float x) {
  float y;
  asm("tanh.approx.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// sigmoid(gate) * tanh(filter). The weights of the gates are halved beforehand.
__device__ __forceinline__ float gated(float half_gate, float filter) {
  return fmaf(0.5f, tanh_of(half_gate), 0.5f) * tanh_of(filter);
}

// Copies 16 bytes into shared memory, or zeros.
__device__ __forceinline__ void copy_async(u32 to, const void* from, bool exists) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(exists ? 16 : 0) : "memory");
}
__device__ __forceinline__ void copies_done() { asm volatile("cp.async.wait_all;" ::: "memory"); }
