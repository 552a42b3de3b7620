// Instructions of the tensor cores since Ampere, for stack.cu. Macro: BF16.

#include "numbers.cu"

// Reads four 8 x 8 matrices of 16-bit numbers. Lane 8 m + r passes the address of row r of matrix m; every lane
// receives columns 2t, 2t + 1 of row g of each matrix, where g = lane / 4 and t = lane % 4.
__device__ __forceinline__ void load4(u32 (&v)[4], u32 from) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(v[0]), "=r"(v[1]), "=r"(v[2]), "=r"(v[3])
               : "r"(from)
               : "memory");
}

// sums [16,8] += a [16,16] b [16,8]. A lane holds sums of rows g, g + 8 and columns 2t, 2t + 1; of a the same rows, and
// columns 2t, 2t + 1, 2t + 8, 2t + 9.
__device__ __forceinline__ void multiply(float (&sums)[4], const u32 (&a)[4], u32 b0, u32 b1) {
#ifdef BF16
#define TYPES "f32.bf16.bf16.f32"
#else
#define TYPES "f32.f16.f16.f32"
#endif
  asm volatile("mma.sync.aligned.m16n8k16.row.col." TYPES
               " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
               : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
