// Instructions of Hopper that C++ has no words for, for stack.cu. Macro: PAIR.

#include "numbers.cu"

// Makes this thread's writes to shared memory visible to wgmma; a barrier must follow.
__device__ __forceinline__ void show_products() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }
__device__ __forceinline__ void barrier(int number, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(number), "r"(threads) : "memory");
}
__device__ __forceinline__ void products_begin() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void products_issued() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int PENDING>
__device__ __forceinline__ void products_done() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(PENDING) : "memory");
}

// A descriptor of rows of 16 bytes: `leading` bytes to the next 8 of K, 128 bytes to the next 8 rows.
__device__ __forceinline__ u64 descriptor(u32 at, u32 leading) {
  return u64(at >> 4) | u64(leading >> 4) << 16 | u64(128 >> 4) << 32;
}

// 8 x 8 matrices of [sample, channel] in shared memory, from and to accumulators [channel, sample].
__device__ __forceinline__ void store4(u32 to, const u32 (&v)[4]) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(to), "r"(v[0]), "r"(v[1]),
               "r"(v[2]), "r"(v[3])
               : "memory");
}
__device__ __forceinline__ void store2(u32 to, u32 a, u32 b) {
  asm volatile("stmatrix.sync.aligned.m8n8.x2.trans.shared.b16 [%0], {%1, %2};" ::"r"(to), "r"(a), "r"(b) : "memory");
}
__device__ __forceinline__ void load2(u32 from, u32& a, u32& b) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];"
               : "=r"(a), "=r"(b)
               : "r"(from)
               : "memory");
}

// mbarriers: arrivals, and the bytes of bulk copies.
__device__ __forceinline__ void init(u32 at, u32 count) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(at), "r"(count) : "memory");
}
__device__ __forceinline__ void expect(u32 at, u32 bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(at), "r"(bytes) : "memory");
}
__device__ __forceinline__ void wait(u32 at, u32 parity) {
  asm volatile("{.reg .pred p; AGAIN: mbarrier.try_wait.parity.shared::cta.b64 p, [%0], %1; @!p bra AGAIN;}" ::"r"(at),
               "r"(parity)
               : "memory");
}

#ifdef PAIR
constexpr int BLOCKS = 2;
__device__ __forceinline__ void both_blocks() {
  asm volatile("barrier.cluster.arrive.release; barrier.cluster.wait.acquire;" ::: "memory");
}
// Gives a slot back to the producers of both blocks, which write half of it each.
__device__ __forceinline__ void release(u32 at) {
#pragma unroll
  for (int block = 0; block < BLOCKS; block++)
    asm volatile(
        "{.reg .b32 there; mapa.shared::cluster.u32 there, %0, %1;"
        " mbarrier.arrive.release.cluster.shared::cluster.b64 _, [there];}" ::"r"(at),
        "r"(block)
        : "memory");
}
__device__ __forceinline__ void bring(u32 to, const unsigned char* from, u32 bytes, u32 counter) {
  u32 rank;
  asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  const u32 mine = rank * (bytes / 2);
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%0], [%1], %2, [%3], "
      "%4;" ::"r"(to + mine),
      "l"(from + mine), "r"(bytes / 2), "r"(counter), "h"((short)3)
      : "memory");
}
#else
constexpr int BLOCKS = 1;
__device__ __forceinline__ void both_blocks() {}
__device__ __forceinline__ void release(u32 at) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(at) : "memory");
}
__device__ __forceinline__ void bring(u32 to, const unsigned char* from, u32 bytes, u32 counter) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(to),
               "l"(from), "r"(bytes), "r"(counter)
               : "memory");
}
#endif
