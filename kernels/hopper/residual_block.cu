// One residual layer of 64 channels on a Hopper GPU, fused (paper, figure 2):
// `engine.kernels.reference.residual_block`.
//
//     y[l] = sum_k W_k h[l + (k-1) dilation] + bias + conditioner[l]      h is 0 outside
//     z    = sigmoid(y[gate]) * tanh(y[filter])
//     next[l], skip[l] = (h[l] + W_res z + bias_res) * sqrt(1/2), skip[l] * accumulate + W_skip z
//
// A block keeps the weights of the layer in shared memory, 64 KB. Each warpgroup processes every n-th tile of 64
// samples: it multiplies the tile by wgmma and loads its next tile meanwhile. While one warpgroup waits for its
// products, another computes its gates. No value moves between threads: the column order of the weights (layout.py)
// makes the values that a thread holds of one product those that it needs for the next, and 32 consecutive bytes of
// memory.
//
// NVRTC compiles this file without headers (build.py). Macros: GROUPS is the number of warpgroups of a block,
// CONDITIONED adds a conditioner, REFLECT reflects h at the ends instead of padding with 0, BF16 stores bf16 instead of
// fp16.

typedef unsigned int u32;
typedef unsigned long long u64;

constexpr int C = 64, ROWS = 64, THREADS = 128 * GROUPS;
constexpr u32 TILE = ROWS * C * 2;          // bytes of 64 samples
constexpr u32 WEIGHTS = 4 * 2 * C * C * 2;  // three taps and the projection, each [2C, C]

#ifdef BF16
#define PRODUCT "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16"
#else
#define PRODUCT "wgmma.mma_async.sync.aligned.m64n128k16.f32.f16.f16"
#endif

__device__ __forceinline__ float low(u32 pair) {
  float x;
#ifdef BF16
  x = __uint_as_float(pair << 16);
#else
  asm("{.reg .b16 a, b; mov.b32 {a, b}, %1; cvt.f32.f16 %0, a;}" : "=f"(x) : "r"(pair));
#endif
  return x;
}

__device__ __forceinline__ float high(u32 pair) {
  float x;
#ifdef BF16
  x = __uint_as_float(pair & 0xffff0000u);
#else
  asm("{.reg .b16 a, b; mov.b32 {a, b}, %1; cvt.f32.f16 %0, b;}" : "=f"(x) : "r"(pair));
#endif
  return x;
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

// sigmoid(gate) * tanh(filter)
__device__ __forceinline__ float gated(float gate, float filter) {
  return (0.5f * tanh_of(0.5f * gate) + 0.5f) * tanh_of(filter);
}

// Copies 16 bytes into shared memory, or zeros.
__device__ __forceinline__ void copy_async(u32 to, const void* from, bool exists) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(exists ? 16 : 0) : "memory");
}

// Waits for this thread's copies. After a barrier wgmma may read them.
__device__ __forceinline__ void wait_for_copies() {
  asm volatile("cp.async.wait_all;\n fence.proxy.async.shared::cta;" ::: "memory");
}

__device__ __forceinline__ void group_barrier(int group) {
  asm volatile("bar.sync %0, 128;" ::"r"(group + 1) : "memory");
}

// Offset of a 16-byte piece in rows of 128 bytes. The row permutes its eight pieces: wgmma's 128-byte swizzle.
__device__ __forceinline__ u32 swizzled(u32 row, u32 piece) { return row * 128 + ((piece ^ (row & 7)) << 4); }

__device__ __forceinline__ u64 descriptor(u32 address) {
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
  asm volatile("{.reg .pred p; setp.eq.u32 p, 0, 0; " PRODUCT " " SUMS ", %64, %65, p, 1, 1, 0, 0;}"
               : F64(sums)
               : "l"(a), "l"(b));
}

// The same product with a in registers.
__device__ __forceinline__ void multiply(float (&sums)[64], const u32 (&a)[4], u64 b) {
  asm volatile("{.reg .pred p; setp.eq.u32 p, 0, 0; " PRODUCT " " SUMS ", {%64,%65,%66,%67}, %68, p, 1, 1, 0;}"
               : F64(sums)
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}

__device__ __forceinline__ void products_begin() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void products_issued() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void products_done(float (&sums)[64]) {
  asm volatile("wgmma.wait_group.sync.aligned 0;" : F64(sums)::"memory");
}

extern __shared__ __align__(1024) unsigned char memory[];

// The channel whose gate and filter are columns 8 j + 2 t + (0, 1) of the sums.
__device__ __forceinline__ int channel_of(int j, int t) { return 16 * (j / 4) + 2 * t + j % 2 + 8 * (j % 4 / 2); }

// A tile: its item, its first sample, and the item's length in samples.
struct Tile {
  int item, first, length;
};

extern "C" __global__ void __launch_bounds__(THREADS, 1)
    residual_block(const uint4* __restrict__ h, uint4* __restrict__ next, uint4* __restrict__ skip,
                   const uint4* __restrict__ conditioner, const uint4* __restrict__ weights,
                   const float* __restrict__ bias, const int* __restrict__ lengths, int capacity, int dilation,
                   int accumulate, int items) {
  const int group = threadIdx.x / 128, thread = threadIdx.x % 128, lane = thread % 32, t = lane % 4;
  const int tiles = (capacity + ROWS - 1) / ROWS, row = 16 * (thread / 32) + lane / 4;
  const u32 start = (u32)__cvta_generic_to_shared(memory);
  const u32 inputs = start + WEIGHTS + group * 6 * TILE;  // two tiles of three taps each
  const float root = 0.7071067811865476f;
  float* biases = reinterpret_cast<float*>(memory + WEIGHTS + GROUPS * 6 * TILE);

  for (u32 i = threadIdx.x; i < WEIGHTS / 16; i += THREADS) copy_async(start + 16 * i, weights + i, true);
  // Allow the next layer to load its weights. Wait until the layer before this one has written its output.
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
  asm volatile("griddepcontrol.wait;" ::: "memory");
  // The residual's biases, and four versions of the convolution's. The full version includes the step bias d of all
  // taps. Within a dilation of an end the past tap, the future tap or both lie outside, and their part of d is
  // subtracted.
  for (int i = threadIdx.x; i < 9 * C; i += THREADS) {
    const int column = (i - C) % (2 * C), outside = (i - C) / (2 * C);
    float b = i < C ? bias[6 * C + i] * root : bias[column];
    if (i >= C && outside & 1) b -= bias[2 * C + column];
    if (i >= C && outside & 2) b -= bias[4 * C + column];
    biases[i] = b;
  }

  auto next_tile = [&](int number) {  // the first tile from `number` on that has samples
    Tile tile = {-1, 0, 0};
    for (; number < items * tiles; number += gridDim.x * GROUPS) {
      int item = number / tiles, first = (number - item * tiles) * ROWS, length = lengths[item];
      if (first < length) {
        tile = {item, first, length};
        break;
      }
    }
    return tile;
  };

  auto load = [&](const Tile& tile, u32 destination) {  // h of the three taps
    const u32 item = tile.item * capacity;
    u32 target = destination + swizzled(thread / 8, thread % 8);
#pragma unroll
    for (int tap = 0; tap < 3; tap++) {
#pragma unroll
      for (int i = 0; i < 4; i++) {
        int sample = tile.first + thread / 8 + 16 * i;
        bool exists = sample < tile.length;
        sample += (tap - 1) * dilation;
#ifdef REFLECT
        sample = sample < 0 ? -sample : sample >= tile.length ? 2 * (tile.length - 1) - sample : sample;
#endif
        exists = exists && sample >= 0 && sample < tile.length;
        copy_async(target + tap * TILE + i * 2048, h + (exists ? 8 * (item + sample) : 0) + thread % 8, exists);
      }
    }
  };

  uint4 condition[2][4];
  auto load_condition = [&](const Tile& tile) {
#ifdef CONDITIONED
#pragma unroll
    for (int half = 0; half < 2; half++) {
      int sample = tile.first + row + 8 * half;
      const uint4* source = conditioner + 16 * (u32)(tile.item * capacity + sample) + t;
#pragma unroll
      for (int i = 0; i < 4; i++) condition[half][i] = sample < tile.length ? source[4 * i] : uint4{0, 0, 0, 0};
    }
#endif
  };

  Tile tile = next_tile(blockIdx.x * GROUPS + group);
  if (tile.item >= 0) {
    load(tile, inputs);
    load_condition(tile);
  }
  wait_for_copies();
  __syncthreads();

  for (u32 side = 0; tile.item >= 0; side ^= 3 * TILE) {
    const Tile after = next_tile(tile.item * tiles + tile.first / ROWS + gridDim.x * GROUPS);
    wait_for_copies();
    group_barrier(group);  // the tile has arrived, and the other buffer is no longer read

    float sums[64];
#pragma unroll
    for (int half = 0; half < 2; half++) {
#ifdef REFLECT
      const int outside = 0;
#else
      const int sample = tile.first + row + 8 * half;
      const int outside = (sample < dilation) + 2 * (sample >= tile.length - dilation);
#endif
      const float2* full = reinterpret_cast<const float2*>(biases + C + outside * 2 * C);
#pragma unroll
      for (int j = 0; j < 16; j++) {
        const float2 b = full[channel_of(j, t)];
        sums[4 * j + 2 * half] = b.x;
        sums[4 * j + 2 * half + 1] = b.y;
#ifdef CONDITIONED
        const u32 pair = reinterpret_cast<const u32*>(&condition[half][j / 4])[j % 4];
        sums[4 * j + 2 * half] += low(pair);
        sums[4 * j + 2 * half + 1] += high(pair);
#endif
      }
    }

    products_begin();
#pragma unroll
    for (int tap = 0; tap < 3; tap++)
#pragma unroll
      for (int k = 0; k < 4; k++)
        multiply(sums, descriptor(inputs + side + tap * TILE) + 2 * k, descriptor(start + tap * 2 * TILE) + 2 * k);
    products_issued();

    // Meanwhile load the next tile, and the skip sum that the projection is added to.
    if (after.item >= 0) {
      load(after, inputs + (side ^ (3 * TILE)));
      load_condition(after);
    }
    uint4 old_skip[2][2];                             // 16 channels, from 16 t on
    const int rest = tile.length - tile.first - row;  // samples from this thread's first row on
    const u32 offset = 8 * (tile.item * capacity + tile.first + row) + 2 * t;
#pragma unroll
    for (int half = 0; half < 2; half++)
#pragma unroll
      for (int i = 0; i < 2; i++)
        old_skip[half][i] = accumulate && rest > 8 * half ? skip[offset + 64 * half + i] : uint4{0, 0, 0, 0};
    products_done(sums);

    u32 z[4][4];  // in the register layout of the next product's left operand
#pragma unroll
    for (int k = 0; k < 4; k++)
#pragma unroll
      for (int i = 0; i < 4; i++) {  // rows: i % 2; channels 16 k + 2 t + (0, 1) + 8 (i / 2)
        const int j = 4 * k + 2 * (i / 2), half = i % 2;
        z[k][i] = pack(gated(sums[4 * j + 2 * half], sums[4 * j + 2 * half + 1]),
                       gated(sums[4 * j + 4 + 2 * half], sums[4 * j + 5 + 2 * half]));
      }

    const unsigned char* center = memory + (inputs - start) + side + TILE;
#pragma unroll
    for (int half = 0; half < 2; half++)
#pragma unroll
      for (int i = 0; i < 2; i++) {
        const uint4 middle = *reinterpret_cast<const uint4*>(center + swizzled(row + 8 * half, 2 * t + i));
#pragma unroll
        for (int m = 0; m < 4; m++) {  // columns 8 j + 2 t + (0, 1) are channels 16 t + 2 j + (0, 1)
          const int j = 4 * i + m, n = 4 * j + 2 * half;
          const float2 b = reinterpret_cast<const float2*>(biases)[8 * t + j];
          const u32 x = reinterpret_cast<const u32*>(&middle)[m],
                    s = reinterpret_cast<const u32*>(&old_skip[half][i])[m];
          sums[n] = low(x) * root + b.x;
          sums[n + 1] = high(x) * root + b.y;
          sums[n + 32] = low(s);
          sums[n + 33] = high(s);
        }
      }
    products_begin();
#pragma unroll
    for (int k = 0; k < 4; k++) multiply(sums, z[k], descriptor(start + 6 * TILE) + 2 * k);
    products_issued();
    products_done(sums);

#pragma unroll
    for (int half = 0; half < 2; half++)
#pragma unroll
      for (int i = 0; i < 2; i++) {
        uint4 x, s;
#pragma unroll
        for (int m = 0; m < 4; m++) {
          const int n = 4 * (4 * i + m) + 2 * half;
          reinterpret_cast<u32*>(&x)[m] = pack(sums[n], sums[n + 1]);
          reinterpret_cast<u32*>(&s)[m] = pack(sums[n + 32], sums[n + 33]);
        }
        if (rest > 8 * half) {
          next[offset + 64 * half + i] = x;
          skip[offset + 64 * half + i] = s;
        }
      }
    tile = after;
  }
}
