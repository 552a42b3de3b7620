// LAYERS residual layers of 64 channels on a Hopper GPU in one launch (paper, figure 2), each with its conditioner:
// `engine.kernels.reference.residual_block`, layer after layer.
//
//     y[l] = sum_k W_k h[l + (k-1) dilation] + V mel[l] + bias               h is 0 outside
//     z    = sigmoid(y[gate]) * tanh(y[filter])
//     h[l], skip[l] = (h[l] + W_res z + bias_res) * sqrt(1/2), skip[l] + W_skip z
//
// Time is the N of wgmma: D [channels, time] = W [channels, K] x X [K, time]. Both operands lie in shared memory,
// K-major and without a swizzle. A plane holds 8 channels of all samples of a tile, 16 bytes a sample. A tap that reads
// e samples further is a descriptor whose start is 16 e bytes further; without a swizzle there is no pattern it must be
// aligned to.
//
// A block works on every stride-th sample, on which the dilations of its layers are 1, 2, 4, 8. It has two warpgroups
// for products, COLUMNS samples each, and one thread that streams weights by bulk copies behind mbarriers. h stays in
// shared memory over the layers, the skip sum in registers. Each layer spoils its dilation at either end of the tile,
// so that neighbouring tiles overlap by HALO samples.
//
// The first group of a step may compute h from the audio (ENTRY, `reference.input_projection`), the last one may update
// the audio from the skip sum (HEAD, `reference.output_head` and `noise_update`).
//
// NVRTC compiles this file without the system's headers (build.py). multiply.h holds the product of COLUMNS columns
// (stack.py). Macros: LAYERS; COLUMNS, a multiple of 8; BANDS of the mel, a multiple of 16 or 0; SHARED, bytes of a
// block; BF16 stores bf16 instead of fp16; PAIR is for clusters of two blocks, which bring each other half of the
// weights; READ_NOISE reads the noise of HEAD instead of drawing it; SCALED multiplies it by a scale.

#include "instructions.cu"
#include "ends.cu"
#include "multiply.h"

constexpr int C = 64, GROUPS = 2, ROWS = GROUPS * COLUMNS, WORKERS = 128 * GROUPS, THREADS = WORKERS + 128;
constexpr int PAD = 8;  // rows of zeros at either end of h, for the taps: the largest dilation of four layers
constexpr int HALO = (1 << LAYERS) - 1, KEPT = ROWS - 2 * HALO;  // samples of a tile that come out right
constexpr u32 PLANE = ((ROWS + 2 * PAD + 6) / 8 * 8 + 1) * 16;   // bytes of a plane of h: 1 modulo 8 samples, so that
constexpr u32 MEL_PLANE = ((ROWS + 6) / 8 * 8 + 1) * 16;         // the planes begin in different banks
constexpr u32 TILE = C / 8 * PLANE, MEL_TILE = BANDS / 8 * MEL_PLANE;
constexpr int STEPS = (3 * C + BANDS) / 16;  // of K, in the convolution and the conditioner
constexpr u32 STEP = 2048, HALF = STEPS * STEP, PROJECTION = 8 * STEP, WEIGHTS = 2 * HALF + PROJECTION;  // bytes
constexpr u32 BARRIERS = 2 * TILE + MEL_TILE + 2 * HALF + 2 * PROJECTION;
#ifdef HEAD
constexpr bool IS_LAST = true;
#else
constexpr bool IS_LAST = false;
#endif
static_assert(LAYERS <= 4 && KEPT > 0 && SHARED == BARRIERS + 64 && SHARED <= 232448,
              "layers, columns or shared memory");

// The weights of a layer arrive in three pieces. Slots 0 and 1 hold the halves of the convolution, slots 2
// and 3 the projections of even and odd layers. A slot has a barrier that it is full, slots 0 and 1 one that they are
// empty: when all warps have released slot 1 in a layer, none reads the projections of the layer before any more.
__device__ __forceinline__ u32 full(u32 barriers, int slot) { return barriers + 8 * slot; }
__device__ __forceinline__ u32 empty(u32 barriers, int slot) { return barriers + 32 + 8 * slot; }

// Streams the weights of all layers, and of the head, into the slots, each as soon as its last user has released it.
__device__ __forceinline__ void stream_weights(const unsigned char* weights, const unsigned char* hidden, u32 slots,
                                               u32 barriers) {
  for (int layer = 0; layer < LAYERS; layer++) {
    for (int piece = 0; piece < 3; piece++) {
      const bool convolution = piece < 2;
      const int slot = convolution ? piece : 2 + layer % 2;
      const u32 bytes = convolution ? HALF : PROJECTION;
      const u32 to = slots + (convolution ? slot * HALF : 2 * HALF + (slot - 2) * PROJECTION);
      if (convolution && layer) wait(empty(barriers, slot), (layer - 1) & 1);
      expect(full(barriers, slot), bytes);
      bring(to, weights + u64(layer) * WEIGHTS + piece * HALF, bytes, full(barriers, slot));
    }
  }
  if (IS_LAST) {
    wait(empty(barriers, 0), (LAYERS - 1) & 1);
    expect(full(barriers, 0), PROJECTION / 2);
    bring(slots, hidden, PROJECTION / 2, full(barriers, 0));
  }
}

// The place of a thread in the tile. It asks for its number anew: an address that is computed where it is used holds no
// register in between, and the products need nearly all of them.
struct Place {
  int group, warp, lane;
  __device__ __forceinline__ Place() {
    int thread;
    asm volatile("mov.u32 %0, %%tid.x;" : "=r"(thread));
    group = thread / 128, warp = thread / 32 % 4, lane = thread % 32;
  }
  // The warpgroup's first sample in a plane of h.
  __device__ __forceinline__ u32 own() const { return (PAD + group * COLUMNS) * 16; }
  // Row of the two matrices that hold channels 16 warp .. 16 warp + 15 of 8 samples.
  __device__ __forceinline__ u32 channels16() const {
    return own() + (2 * warp + lane / 8 % 2) * PLANE + lane % 8 * 16;
  }
  // Row of the matrices that hold the 8 channels that the warp gates of a half; `lanes` / 8 matrices of samples.
  __device__ __forceinline__ u32 channels8(int half, int lanes) const {
    return own() + (4 * half + warp) * PLANE + lane % lanes * 16;
  }
  // The sample, within the tile, of accumulator 0 of a product. Accumulator i lies i / 4 * 8 + i % 2 further.
  __device__ __forceinline__ int sample() const { return group * COLUMNS + lane % 4 * 2; }
};

extern __shared__ __align__(1024) unsigned char memory[];

// weights [LAYERS][WEIGHTS]: layout.py's `stack_image`. bias [LAYERS][7C]: as Triton's residual_block reads it. The
// arguments of ENTRY and HEAD are those of Triton's input_projection and output_head; hidden is layout.py's
// `head_image`.
extern "C" __global__ void __launch_bounds__(THREADS, 1) stack(
#ifdef ENTRY
    const float* audio, const float* __restrict__ entry_weight, const float* __restrict__ entry_bias,
#else
    const uint4* __restrict__ h,
#endif
#ifdef HEAD
    const unsigned char* __restrict__ hidden, const float* __restrict__ hidden_bias, const float* __restrict__ out,
    const float* __restrict__ out_bias, float* audio, const float* noise, const float* scale, const float* terms,
    const int* noise_step, const u64* seeds, const u64* begins,
#else
    uint4* __restrict__ next,
#endif
    uint4* __restrict__ skip, const uint4* __restrict__ mel, const unsigned char* __restrict__ weights,
    const float* __restrict__ bias, const int* __restrict__ lengths, int capacity, int stride, int accumulate) {
#ifdef ENTRY  // this launch may follow one that writes the mel or the lengths
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
  const float root = 0.7071067811865476f;
  const int thread = threadIdx.x, phase = blockIdx.y, length = lengths[blockIdx.z];
  const int count = (length - phase + stride - 1) / stride;  // samples of this phase
  const int first = blockIdx.x * KEPT - HALO;                // the tile's first sample among them
  const u64 item = u64(blockIdx.z) * capacity;
#ifdef PAIR  // two tiles, or two phases: the first of them has a sample if the second one has
  const int lead = stride == 1 ? (int)(blockIdx.x & ~1u) * KEPT : (int)blockIdx.x * KEPT;
  if (lead >= (length - (phase & ~1) + stride - 1) / stride) return;
#else
  if (first + HALO >= count) return;
#endif
  const u32 start = (u32)__cvta_generic_to_shared(memory);
  const u32 tiles = start, mels = start + 2 * TILE, slots = mels + MEL_TILE, barriers = start + BARRIERS;

  if (thread == 0) {
    for (int slot = 0; slot < 4; slot++) init(full(barriers, slot), 1);
    for (int slot = 0; slot < 2; slot++) init(empty(barriers, slot), 4 * GROUPS * BLOCKS);  // one arrival a warp
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  }
  __syncthreads();
  both_blocks();
  if (thread >= WORKERS) {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 24;");
#ifdef HEAD
    if (thread == WORKERS) stream_weights(weights, hidden, slots, barriers);
#else
    if (thread == WORKERS) stream_weights(weights, nullptr, slots, barriers);
#endif
    both_blocks();
    return;
  }
  asm volatile("setmaxnreg.inc.sync.aligned.u32 240;");

  // Allow the next launch to begin. Until the launch before this one has written h and skip, only read what it does not
  // write: weights, biases, lengths and the mel.
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#if BANDS > 0
  for (int i = thread; i < ROWS * (BANDS / 8); i += WORKERS) {
    const int row = i / (BANDS / 8), plane = i % (BANDS / 8), j = first + row;
    const bool exists = j >= 0 && j < count;
    const u64 sample = item + (exists ? phase + u64(stride) * j : 0);
    copy_async(mels + plane * MEL_PLANE + row * 16, mel + sample * (BANDS / 8) + plane, exists);
  }
#endif
#ifndef ENTRY
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
  for (int i = thread; i < (ROWS + 2 * PAD) * 8; i += WORKERS) {
    const int row = i / 8, plane = i % 8, j = first + row - PAD;
    const bool inside = row >= PAD && row < ROWS + PAD, exists = inside && j >= 0 && j < count;
    const u64 sample = item + (exists ? phase + u64(stride) * j : 0);
    const u32 to = tiles + plane * PLANE + row * 16;
#ifdef ENTRY
    uint4 rows = {0, 0, 0, 0};
    if (exists) rows = project_input(audio[sample], entry_weight, entry_bias, plane);
    *reinterpret_cast<uint4*>(memory + (to - start)) = rows;
#else
    copy_async(to, h + sample * 8 + plane, exists);
#endif
    if (!inside) copy_async(to + TILE, mel, false);  // the edges of the tile that the first layer writes
  }
  copies_done();
  show_products();
  barrier(1, WORKERS);

  // Whether a tap of any layer reaches outside of the audio.
  const bool edge = first < (1 << (LAYERS - 1)) || first + ROWS > count - (1 << (LAYERS - 1));
  float total[COLUMNS / 2], sums[2][COLUMNS / 2];  // skip sum; convolution by halves, the first then the residual
#pragma unroll
  for (int i = 0; i < COLUMNS / 2; i++) total[i] = 0.0f;

#pragma unroll 1
  for (int layer = 0; layer < LAYERS; layer++) {
    const int dilation = 1 << layer;
    const u32 x = tiles + (layer & 1) * TILE, y = tiles + (~layer & 1) * TILE;  // y receives z, then the residual
    const float* biases = bias + layer * 7 * C;
    products_begin();
#pragma unroll
    for (int half = 0; half < 2; half++) {
      wait(full(barriers, half), layer & 1);
      const Place place;
      const u64 left = descriptor(slots + half * HALF, 1024);
      const u64 right = descriptor(x + place.own() - 16 * dilation, PLANE);
      const u64 condition = descriptor(mels + place.group * COLUMNS * 16, MEL_PLANE);
#pragma unroll
      for (int tap = 0; tap < 3; tap++)
#pragma unroll
        for (int k = 0; k < 4; k++)
          multiply(sums[half], left + (4 * tap + k) * (STEP / 16), right + tap * dilation + k * (2 * PLANE / 16),
                   tap + k > 0);
#pragma unroll
      for (int k = 0; k < BANDS / 16; k++)
        multiply(sums[half], left + (12 + k) * (STEP / 16), condition + k * (2 * MEL_PLANE / 16), 1);
      products_issued();
    }

    // Gate one half of the channels while the tensor cores work on the other half, or on its projections.
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const Place place;
      const float2* pairs = reinterpret_cast<const float2*>(biases) + 32 * half + 8 * place.warp + place.lane / 4;
      const float gate_bias = 0.5f * pairs[0].x, filter_bias = pairs[0].y;
      products_done<1>();
      if (place.lane == 0 && (layer + 1 < LAYERS || (IS_LAST && half == 0))) release(empty(barriers, half));
      if (edge) {  // a tap outside of the audio sees 0 instead of the step bias, which gate_bias and filter_bias
                   // include
        const float past[2] = {0.5f * pairs[C].x, pairs[C].y}, future[2] = {0.5f * pairs[2 * C].x, pairs[2 * C].y};
        const int sample = first + place.sample();
#pragma unroll
        for (int i = 0; i < COLUMNS / 2; i++) {
          const int j = sample + i / 4 * 8 + i % 2;
          sums[half][i] -= (j < dilation ? past[i / 2 % 2] : 0.0f) + (j >= count - dilation ? future[i / 2 % 2] : 0.0f);
        }
      }
      constexpr int BLOCKS8 = COLUMNS / 8;  // of samples
#pragma unroll
      for (int n = 0; n < BLOCKS8; n += 4) {
        u32 z[4];
#pragma unroll
        for (int i = 0; i < 4 && n + i < BLOCKS8; i++) {
          const float* s = sums[half] + 4 * (n + i);
          z[i] = pack(gated(s[0] + gate_bias, s[2] + filter_bias), gated(s[1] + gate_bias, s[3] + filter_bias));
        }
        const u32 to = y + n * 128;
        if (n + 4 <= BLOCKS8) store4(to + place.channels8(half, 32), z);
        if (n + 4 > BLOCKS8 && BLOCKS8 % 4 >= 2) store2(to + place.channels8(half, 16), z[0], z[1]);
        if (n + 4 > BLOCKS8 && BLOCKS8 % 4 == 1) store2(to + place.channels8(half, 8), z[0], z[0]);
        if (n + 4 > BLOCKS8 && BLOCKS8 % 4 == 3) store2(to + 256 + place.channels8(half, 8), z[2], z[2]);
      }
      if (half == 0) {  // the residual's other terms, in the accumulators that the gate has left
        const Place here;
        const u32 from = x + here.channels16();
        const float* residual = biases + 6 * C + 16 * here.warp + here.lane / 4;
        const float residual_bias[2] = {root * residual[0], root * residual[8]};
#pragma unroll
        for (int n = 0; n < BLOCKS8; n++) {
          u32 v[2];
          load2(from + n * 128, v[0], v[1]);
#pragma unroll
          for (int i = 0; i < 2; i++) {
            sums[0][4 * n + 2 * i] = fmaf(low(v[i]), root, residual_bias[i]);
            sums[0][4 * n + 2 * i + 1] = fmaf(high(v[i]), root, residual_bias[i]);
          }
        }
      }
      show_products();
      barrier(2 + place.group, 128);  // z of this half has been written by all four warps
      if (half == 0) wait(full(barriers, 2 + (layer & 1)), layer / 2 & 1);
      products_begin();
      const u64 left = descriptor(slots + 2 * HALF + (layer & 1) * PROJECTION, 1024);
      const u64 right = descriptor(y + place.own(), PLANE);
#pragma unroll
      for (int k = 2 * half; k < 2 * half + 2; k++) {
        multiply(sums[0], left + k * (STEP / 16), right + k * (2 * PLANE / 16), 1);
        multiply(total, left + (4 + k) * (STEP / 16), right + k * (2 * PLANE / 16), 1);
      }
      products_issued();
    }
    products_done<0>();
    const Place place;
    barrier(2 + place.group, 128);  // z is no longer read
    if (edge) {                     // h is 0 outside of the audio in the next layer, too
      const int sample = first + place.sample();
#pragma unroll
      for (int i = 0; i < COLUMNS / 2; i++) {
        const int j = sample + i / 4 * 8 + i % 2;
        if (j < 0 || j >= count) sums[0][i] = 0.0f;
      }
    }
    const u32 to = y + place.channels16();
#pragma unroll
    for (int n = 0; n < COLUMNS / 8; n++)
      store2(to + n * 128, pack(sums[0][4 * n], sums[0][4 * n + 1]), pack(sums[0][4 * n + 2], sums[0][4 * n + 3]));
    show_products();
    barrier(1, WORKERS);  // the taps of the next layer reach into the samples of the other warpgroup
  }

  // The skip sum goes into the tile that is no longer read, and then what earlier groups have added up is added to it.
  const u32 last = (LAYERS & 1) * TILE, spare = TILE - last, to = tiles + spare + Place().channels16();
#pragma unroll
  for (int n = 0; n < COLUMNS / 8; n++)
    store2(to + n * 128, pack(total[4 * n], total[4 * n + 1]), pack(total[4 * n + 2], total[4 * n + 3]));
  barrier(1, WORKERS);
  for (int i = thread; i < KEPT * 8; i += WORKERS) {  // rows of 128 bytes by 8 threads
    const int row = HALO + i / 8, plane = i % 8, j = first + row;
    if (j >= count) continue;
    const u64 at = (item + phase + u64(stride) * j) * 8 + plane;
    const u32 from = plane * PLANE + (PAD + row) * 16;
    uint4 sum = *reinterpret_cast<const uint4*>(memory + spare + from);
    if (accumulate) {
      const uint4 before = skip[at];
      u32* s = &sum.x;
      const u32* b = &before.x;
#pragma unroll
      for (int k = 0; k < 4; k++) s[k] = pack(low(s[k]) + low(b[k]), high(s[k]) + high(b[k]));
    }
#ifdef HEAD
    *reinterpret_cast<uint4*>(memory + spare + from) = sum;
#else
    skip[at] = sum;
    next[at] = *reinterpret_cast<const uint4*>(memory + last + from);
#endif
  }

#ifdef HEAD
  show_products();
  barrier(1, WORKERS);
  wait(full(barriers, 0), LAYERS & 1);
  const Place place;
  products_begin();
#pragma unroll
  for (int k = 0; k < 4; k++)
    multiply(sums[0], descriptor(slots, 1024) + k * (STEP / 16),
             descriptor(tiles + spare + place.own(), PLANE) + k * (2 * PLANE / 16), k > 0);
  products_issued();
  products_done<0>();

  // eps = w_out . relu(hidden): 16 channels a warp over its lanes, then the four warps, through the other tile.
  float* partial = reinterpret_cast<float*>(memory + last);  // [4 warps][ROWS]
  const int channel = 16 * place.warp + place.lane / 4;
  const float hidden0 = hidden_bias[channel], hidden1 = hidden_bias[channel + 8];
  const float out0 = out[channel], out1 = out[channel + 8];
#pragma unroll
  for (int n = 0; n < COLUMNS / 8; n++)
#pragma unroll
    for (int i = 0; i < 2; i++) {
      float sum =
          fmaxf(sums[0][4 * n + i] + hidden0, 0.0f) * out0 + fmaxf(sums[0][4 * n + i + 2] + hidden1, 0.0f) * out1;
#pragma unroll
      for (int other = 4; other < 32; other *= 2) sum += __shfl_xor_sync(0xffffffffu, sum, other);
      if (place.lane < 4) partial[place.warp * ROWS + place.sample() + 8 * n + i] = sum;
    }
  barrier(1, WORKERS);
  for (int row = HALO + thread; row < HALO + KEPT; row += WORKERS) {
    const int j = first + row;
    if (j >= count) continue;
    const int sample = phase + stride * j;
    const float eps =
        partial[row] + partial[ROWS + row] + partial[2 * ROWS + row] + partial[3 * ROWS + row] + out_bias[0];
    update_audio(audio, eps, terms, noise, scale, item + sample, seeds[blockIdx.z], noise_step[0], begins[blockIdx.z],
                 sample);
  }
#endif
  both_blocks();  // a block must not end while the other one may still write to its shared memory
}
