// Two questions about wgmma on a Hopper GPU, which decide how a fused kernel may keep its samples in shared memory:
//
// 1. Does a descriptor that starts `shift` rows into a tile read the rows from there on? Without a swizzle (planes of
//    8 channels, 16 bytes a row) PTX says so. With the 128-byte swizzle it holds only if the hardware swizzles absolute
//    addresses.
// 2. How many clocks does a multiprocessor take for an m64n128k16 by layout, shift and number of warpgroups? 64 is
// best.
//
// wgmma_probe.py compiles it by NVRTC, runs it and compares the products with float64.

typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

constexpr int COLUMNS = 128, DEPTH = 64, ROWS = COLUMNS + 16;
constexpr int PITCH = (ROWS + 6) / 8 * 8 + 1;  // rows of a plane: one more than a multiple of 8, for the banks
constexpr int SAMPLES_AT = 64 * DEPTH * 2;     // bytes of the weights before them

__device__ __forceinline__ u64 plain(u32 address, u32 plane) {
  return u64(address >> 4) | u64(plane >> 4) << 16 | u64(128 >> 4) << 32;
}

__device__ __forceinline__ u64 swizzled(u32 address) {
  return u64(address >> 4) | u64(1) << 16 | u64(1024 >> 4) << 32 | u64(1) << 62;
}

#define F4(d, i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define F16(d, i) F4(d, i), F4(d, i + 4), F4(d, i + 8), F4(d, i + 12)
#define F64(d) F16(d, 0), F16(d, 16), F16(d, 32), F16(d, 48)
#define SUMS                                                                                                     \
  "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,"  \
  "%29,%30,%31,%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,%52,%53,%54,%55," \
  "%56,%57,%58,%59,%60,%61,%62,%63}"

// sums [64,128] += a [64,16] b [16,128], with both operands in shared memory.
__device__ __forceinline__ void multiply(float (&sums)[64], u64 a, u64 b) {
  asm volatile("{.reg .pred p; setp.eq.u32 p, 0, 0; wgmma.mma_async.sync.aligned.m64n128k16.f32.f16.f16 " SUMS
               ", %64, %65, p, 1, 1, 0, 0;}"
               : F64(sums)
               : "l"(a), "l"(b));
}

__device__ __forceinline__ void product(float (&sums)[64], u64 a, u64 b, u32 step) {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#pragma unroll
  for (int k = 0; k < DEPTH / 16; k++) multiply(sums, a + k * 128, b + k * step);
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

__device__ __forceinline__ void done(float (&sums)[64]) {
  asm volatile("wgmma.wait_group.sync.aligned 0;" : F64(sums)::"memory");
}

__device__ __forceinline__ long long clock_now() {
#ifdef TIMED
  return clock64();
#else
  return 0;
#endif
}

extern __shared__ __align__(1024) unsigned char memory[];

// weights [64,DEPTH] fp16, samples [ROWS,DEPTH] fp16 -> sums [64,COLUMNS] of rows shift ..; clocks of `rounds`
// products.
extern "C" __global__ void wgmma_probe(const u16* __restrict__ weights, const u16* __restrict__ samples,
                                       float* __restrict__ result, long long* __restrict__ clocks, int shift,
                                       int is_swizzled, int rounds) {
  const u32 start = (u32)__cvta_generic_to_shared(memory);
  for (int i = threadIdx.x; i < 64 * DEPTH; i += blockDim.x) {
    const int row = i / DEPTH, k = i % DEPTH;
    *(u16*)(memory + (k / 8 * 64 + row) * 16 + k % 8 * 2) = weights[i];
  }
  for (int i = threadIdx.x; i < ROWS * DEPTH; i += blockDim.x) {
    const int row = i / DEPTH, k = i % DEPTH;
    const int piece = is_swizzled ? row * 128 + ((k / 8 ^ row % 8) << 4) : (k / 8 * PITCH + row) * 16;
    *(u16*)(memory + SAMPLES_AT + piece + k % 8 * 2) = samples[i];
  }
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
  __syncthreads();
  float sums[64];
#pragma unroll
  for (int i = 0; i < 64; i++) sums[i] = 0.0f;
  const u32 at = start + SAMPLES_AT;
  const u64 left = plain(start, 1024);
  const u64 right = is_swizzled ? swizzled(at + shift * 128) : plain(at + shift * 16, PITCH * 16);
  const u32 step = is_swizzled ? 2 : 2 * PITCH;
  product(sums, left, right, step);
  done(sums);
  if (threadIdx.x < 128 && blockIdx.x == 0)
#pragma unroll
    for (int i = 0; i < 64; i++) {
      const int row = threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4 + i / 2 % 2 * 8;
      const int column = i / 4 * 8 + threadIdx.x % 4 * 2 + i % 2;
      result[row * COLUMNS + column] = sums[i];
    }
  __syncthreads();
  const long long begin = clock_now();
#pragma unroll 1
  for (int round = 0; round < rounds; round++) product(sums, left, right, step);
  done(sums);
  __syncthreads();
  if (threadIdx.x == 0) clocks[blockIdx.x] = clock_now() - begin;
  if (sums[0] == 12345.678f) result[0] = sums[1];  // keeps the timed products
}
