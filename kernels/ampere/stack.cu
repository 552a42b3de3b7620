// LAYERS residual layers of 64 channels in one launch (paper, figure 2), each with its conditioner:
// `engine.kernels.reference.residual_block`, layer after layer, on any GPU since Ampere.
//
//     y[l] = sum_k W_k h[l + (k-1) dilation] + V mel[l] + bias               h is 0 outside
//     z    = sigmoid(y[gate]) * tanh(y[filter])
//     h[l], skip[l] = (h[l] + W_res z + bias_res) * sqrt(1/2), skip[l] + W_skip z
//
// Time is the M of mma: D [time, channels] = X [time, K] x W [K, channels]. A warp computes 32 samples. Sums lie in
// registers in the layout of the next product's left operand: y becomes z, and the skip sum the operand of the head,
// without passing through shared memory. layout.py orders the weights so that this holds.
//
// A block works on every stride-th sample, on which the dilations of its layers are 1, 2, 4, 8. h stays in shared
// memory over the layers, the skip sum in registers. Each layer spoils its dilation at either end of the tile, so that
// neighbouring tiles overlap by HALO samples. Weights arrive in pieces, of which one is used while the next one is
// copied.
//
// The first group of a step may compute h from the audio (ENTRY, `reference.input_projection`), the last one may update
// the audio from the skip sum (HEAD, `reference.output_head` and `noise_update`).
//
// NVRTC compiles this file without the system's headers. Macros: LAYERS; WARPS of a block; BANDS of the mel, a multiple
// of 16 or 0; SHARED, bytes of a block; BF16 stores bf16 instead of fp16; READ_NOISE and SCALED are those of ends.cu.

#include "instructions.cu"
#include "ends.cu"

constexpr int C = 64, ROWS = 32 * WARPS, THREADS = 32 * WARPS;
constexpr int PAD = 8;  // rows of zeros at either end of h, for the taps: the largest dilation of four layers
constexpr int HALO = (1 << LAYERS) - 1, KEPT = ROWS - 2 * HALO;  // samples of a tile that come out right
// A plane holds 8 channels of all samples of a tile, 16 bytes a sample: the 8 rows of a matrix are 128 bytes in a row
// at any tap. The pitches let accesses to 2 samples in 4 planes, or to one in 8, fall into different banks.
constexpr u32 PLANE = (ROWS + 2 * PAD + 2) * 16, MEL_PLANE = (ROWS + 1) * 16;
constexpr u32 TILE = C / 8 * PLANE, MEL_TILE = BANDS / 8 * MEL_PLANE;
constexpr u32 STEP = 2048;                   // bytes of a step of K: [2][64 outputs][8 inputs]
constexpr int STEPS = (3 * C + BANDS) / 16;  // of K, in the convolution and the conditioner
constexpr u32 WEIGHTS = (2 * STEPS + 8) * STEP, SLOT = (STEPS + 2) / 3 * STEP;
static_assert(LAYERS <= 4 && KEPT > 0 && SHARED == TILE + MEL_TILE + 2 * SLOT, "layers, warps or shared memory");

// The weights of a layer are 8 pieces: three of either half of the convolution's outputs, residual rows, skip rows.
constexpr int PIECES = 8;
__host__ __device__ constexpr int first_step(int piece) {
  return piece < 6 ? piece / 3 * STEPS + piece % 3 * STEPS / 3 : 2 * STEPS + (piece - 6) * 4;
}

extern __shared__ __align__(1024) unsigned char memory[];

// The rows g, g + 8, g + 16, g + 24 of a warp's samples that a lane holds, and its place t in a group of four. It asks
// for its number anew: an address that is computed where it is used holds no register in between.
struct Place {
  int warp, g, t;
  __device__ __forceinline__ Place() {
    int thread;
    asm volatile("mov.u32 %0, %%tid.x;" : "=r"(thread));
    warp = thread / 32, g = thread % 32 / 4, t = thread % 4;
  }
  __device__ __forceinline__ int row(int i) const { return 32 * warp + 8 * i + g; }
  // The 8 channels of row i of h that the lane holds in columns 2t, 2t + 1 of blocks 4 half .. 4 half + 3 of a product.
  __device__ __forceinline__ uint4* channels(int i, int half) const {
    return reinterpret_cast<uint4*>(memory + (4 * half + t) * PLANE + (PAD + row(i)) * 16);
  }
};

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
  const float root = 0.7071067811865476f;
  const int thread = threadIdx.x, warp = thread / 32, lane = thread % 32;
  const int phase = blockIdx.y, length = lengths[blockIdx.z];
  const int count = (length - phase + stride - 1) / stride;  // samples of this phase
  const int first = blockIdx.x * KEPT - HALO;                // the tile's first sample among them
  const u64 item = u64(blockIdx.z) * capacity;
  if (first + HALO >= count) return;
  const u32 tile = (u32)__cvta_generic_to_shared(memory), mels = tile + TILE, slots = mels + MEL_TILE;

  // Copies a piece of the weights into one of two slots.
  auto copy_piece = [&](const unsigned char* from, int slot, u32 bytes) {
    for (u32 i = thread * 16; i < bytes; i += THREADS * 16) copy_async(slots + slot * SLOT + i, from + i, true);
  };
  // Waits for a piece, replaces the piece before it by the one after it, and returns its slot. All warps have used the
  // piece before it, and all their writes to the tile can be read.
  auto receive = [&](int layer, int piece) {
    copies_done();
    __syncthreads();
    const int after = (piece + 1) % PIECES, of = layer + (piece + 1) / PIECES;
    if (of < LAYERS)
      copy_piece(weights + of * WEIGHTS + first_step(after) * STEP, after % 2,
                 (first_step(after + 1) - first_step(after)) * STEP);
#ifdef HEAD
    else if (of == LAYERS && after == 0)
      copy_piece(hidden, 0, 4 * STEP);
#endif
    return slots + piece % 2 * SLOT;
  };

  for (int i = thread; i < ROWS * (BANDS / 8); i += THREADS) {
    const int row = i / (BANDS / 8), plane = i % (BANDS / 8), j = first + row;
    const bool exists = j >= 0 && j < count;
    const u64 sample = item + (exists ? phase + u64(stride) * j : 0);
    copy_async(mels + plane * MEL_PLANE + row * 16, mel + sample * (BANDS / 8) + plane, exists);
  }
  for (int i = thread; i < (ROWS + 2 * PAD) * 8; i += THREADS) {
    const int row = i / 16 * 2 + i / 4 % 2, plane = i / 8 % 2 * 4 + i % 4, j = first + row - PAD;
    const bool exists = row >= PAD && row < ROWS + PAD && j >= 0 && j < count;
    const u64 sample = item + (exists ? phase + u64(stride) * j : 0);
    const u32 to = plane * PLANE + row * 16;
#ifdef ENTRY
    uint4 channels = {0, 0, 0, 0};
    if (exists) channels = project_input(audio[sample], entry_weight, entry_bias, plane);
    *reinterpret_cast<uint4*>(memory + to) = channels;
#else
    copy_async(tile + to, h + sample * 8 + plane, exists);
#endif
  }
  copy_piece(weights, 0, first_step(1) * STEP);

  auto is_kept = [&](int row) { return row >= HALO && row < HALO + KEPT && first + row < count; };
  auto sample_of = [&](int row) { return item + phase + u64(stride) * (first + row); };
  float total[2][8][4], sums[2][8][4];  // the skip sum, and the sums of the other products: [16 rows][8 columns][..]
  const Place start;
#pragma unroll
  for (int i = 0; i < 4; i++)
#pragma unroll
    for (int half = 0; half < 2; half++) {
      uint4 before = {0, 0, 0, 0};
      if (accumulate && is_kept(start.row(i))) before = skip[sample_of(start.row(i)) * 8 + 4 * half + start.t];
      const u32 pairs[4] = {before.x, before.y, before.z, before.w};
#pragma unroll
      for (int n = 0; n < 4; n++) {
        total[i / 2][4 * half + n][i % 2 * 2] = low(pairs[n]);
        total[i / 2][4 * half + n][i % 2 * 2 + 1] = high(pairs[n]);
      }
    }

  // The address of this lane's row in the matrices of a left operand, [32 samples][16 of K] in two planes, and of a
  // right operand, [16 of K][16 outputs].
  const u32 left_row = (32 * warp + lane % 16) * 16, right_row = lane / 8 % 2 * 1024 + lane / 16 * 128 + lane % 8 * 16;
  const u32 h_rows = tile + left_row + PAD * 16 + lane / 16 * PLANE, mel_rows = mels + left_row + lane / 16 * MEL_PLANE;
  // Adds the product of one step of K, both 16 rows, and all 64 columns.
  auto multiply_step = [&](float (&to)[2][8][4], const u32(&left)[2][4], u32 right) {
#pragma unroll
    for (int n = 0; n < 8; n += 2) {
      u32 b[4];
      load4(b, right + right_row + n * 128);
#pragma unroll
      for (int i = 0; i < 2; i++) {
        multiply(to[i][n], left[i], b[0], b[1]);
        multiply(to[i][n + 1], left[i], b[2], b[3]);
      }
    }
  };

  // Whether a tap of any layer reaches outside of the audio.
  const bool edge = first < (1 << (LAYERS - 1)) || first + ROWS > count - (1 << (LAYERS - 1));

#pragma unroll 1
  for (int layer = 0; layer < LAYERS; layer++) {
    asm volatile("" : "+r"(layer));  // remain a loop for one layer, too: straight code would spill registers
    const int dilation = 1 << layer;
    const float* biases = bias + layer * 7 * C;
    u32 z[4][2][4];  // 16 channels each, as left operands
#pragma unroll
    for (int half = 0; half < 2; half++) {
      // Columns 2t and 2t + 1 are gate and filter of channel 32 half + 4n + t.
      const Place place;
      const float2* pairs = reinterpret_cast<const float2*>(biases) + 32 * half + place.t;
#pragma unroll
      for (int n = 0; n < 8; n++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
          sums[i / 2][n][i % 2 * 2] = 0.5f * pairs[4 * n].x;
          sums[i / 2][n][i % 2 * 2 + 1] = pairs[4 * n].y;
        }
      if (edge) {  // a tap outside of the audio sees 0 instead of the step bias, which the biases include
#pragma unroll
        for (int i = 0; i < 4; i++) {
          const int j = first + place.row(i);
          const bool past = j < dilation, future = j >= count - dilation;
#pragma unroll
          for (int n = 0; n < 8; n++) {
            const float2 without_past = pairs[C + 4 * n], without_future = pairs[2 * C + 4 * n];
            sums[i / 2][n][i % 2 * 2] -= 0.5f * ((past ? without_past.x : 0.0f) + (future ? without_future.x : 0.0f));
            sums[i / 2][n][i % 2 * 2 + 1] -= (past ? without_past.y : 0.0f) + (future ? without_future.y : 0.0f);
          }
        }
      }
#pragma unroll
      for (int piece = 3 * half; piece < 3 * half + 3; piece++) {
        const u32 slot = receive(layer, piece);
#pragma unroll
        for (int step = first_step(piece); step < first_step(piece + 1); step++) {
          const int k = step - half * STEPS;  // four steps of each tap, then the mel
          u32 left[2][4];
#pragma unroll
          for (int i = 0; i < 2; i++)
            load4(left[i], k < 12 ? h_rows + (k / 4 - 1) * dilation * 16 + k % 4 * 2 * PLANE + i * 256
                                  : mel_rows + (k - 12) * 2 * MEL_PLANE + i * 256);
          multiply_step(sums, left, slot + (step - first_step(piece)) * STEP);
        }
      }
#pragma unroll
      for (int i = 0; i < 2; i++)
#pragma unroll
        for (int n = 0; n < 8; n += 2)
#pragma unroll
          for (int u = 0; u < 2; u++)
            z[2 * half + n / 4][i][n % 4 + u] = pack(gated(sums[i][n][2 * u], sums[i][n][2 * u + 1]),
                                                     gated(sums[i][n + 1][2 * u], sums[i][n + 1][2 * u + 1]));
    }

    const Place before;
    const float4* residual = reinterpret_cast<const float4*>(biases + 6 * C) + 2 * before.t;
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const float4 even = residual[8 * half], odd = residual[8 * half + 1];
      const float add[8] = {even.x, even.y, even.z, even.w, odd.x, odd.y, odd.z, odd.w};
#pragma unroll
      for (int i = 0; i < 4; i++) {
        const uint4 x = *before.channels(i, half);
        const u32 pairs[4] = {x.x, x.y, x.z, x.w};
#pragma unroll
        for (int n = 0; n < 4; n++) {
          float* s = sums[i / 2][4 * half + n] + i % 2 * 2;
          s[0] = fmaf(low(pairs[n]), root, root * add[2 * n]);
          s[1] = fmaf(high(pairs[n]), root, root * add[2 * n + 1]);
        }
      }
    }
    u32 slot = receive(layer, 6);  // no warp reads h any more
#pragma unroll
    for (int k = 0; k < 4; k++) multiply_step(sums, z[k], slot + k * STEP);
    const Place after;
#pragma unroll
    for (int i = 0; i < 4; i++) {
      const int j = first + after.row(i);
      const bool outside = edge && (j < 0 || j >= count);  // h is 0 there in the next layer, too
#pragma unroll
      for (int half = 0; half < 2; half++) {
        u32 pairs[4];
#pragma unroll
        for (int n = 0; n < 4; n++) {
          const float* s = sums[i / 2][4 * half + n] + i % 2 * 2;
          pairs[n] = outside ? 0 : pack(s[0], s[1]);
        }
        const uint4 channels = {pairs[0], pairs[1], pairs[2], pairs[3]};
#ifndef HEAD
        if (layer == LAYERS - 1) {
          if (is_kept(after.row(i))) next[sample_of(after.row(i)) * 8 + 4 * half + after.t] = channels;
          continue;
        }
#endif
        *after.channels(i, half) = channels;
      }
    }
    slot = receive(layer, 7);
#pragma unroll
    for (int k = 0; k < 4; k++) multiply_step(total, z[k], slot + k * STEP);
  }

  const Place end;
#ifdef HEAD
#pragma unroll
  for (int n = 0; n < 8; n++) {
    const float2 pair = reinterpret_cast<const float2*>(hidden_bias)[4 * n + end.t];
#pragma unroll
    for (int i = 0; i < 4; i++) sums[i / 2][n][i % 2 * 2] = pair.x, sums[i / 2][n][i % 2 * 2 + 1] = pair.y;
  }
  const u32 slot = receive(LAYERS, 0);
#pragma unroll
  for (int k = 0; k < 4; k++) {
    u32 left[2][4];
#pragma unroll
    for (int i = 0; i < 2; i++)
#pragma unroll
      for (int u = 0; u < 4; u++)
        left[i][u] = pack(total[i][2 * k + u / 2][u % 2 * 2], total[i][2 * k + u / 2][u % 2 * 2 + 1]);
    multiply_step(sums, left, slot + k * STEP);
  }
  // eps = w_out . relu(hidden): 16 channels a lane, then four lanes. Each of them updates one of their four rows.
  float eps[4] = {0.0f, 0.0f, 0.0f, 0.0f};
#pragma unroll
  for (int n = 0; n < 8; n++) {
    const float2 pair = reinterpret_cast<const float2*>(out)[4 * n + end.t];
#pragma unroll
    for (int i = 0; i < 4; i++) {
      eps[i] = fmaf(fmaxf(sums[i / 2][n][i % 2 * 2], 0.0f), pair.x, eps[i]);
      eps[i] = fmaf(fmaxf(sums[i / 2][n][i % 2 * 2 + 1], 0.0f), pair.y, eps[i]);
    }
  }
#pragma unroll
  for (int i = 0; i < 4; i++) {
    eps[i] += __shfl_xor_sync(0xffffffffu, eps[i], 1);
    eps[i] += __shfl_xor_sync(0xffffffffu, eps[i], 2);
  }
  const float mine = (end.t == 0 ? eps[0] : end.t == 1 ? eps[1] : end.t == 2 ? eps[2] : eps[3]) + out_bias[0];
  const int row = end.row(end.t), sample = phase + stride * (first + row);
  if (is_kept(row))
    update_audio(audio, mine, terms, noise, scale, item + sample, seeds[blockIdx.z], noise_step[0], begins[blockIdx.z],
                 sample);
#else
#pragma unroll
  for (int i = 0; i < 4; i++)
#pragma unroll
    for (int half = 0; half < 2; half++) {
      u32 pairs[4];
#pragma unroll
      for (int n = 0; n < 4; n++) {
        const float* s = total[i / 2][4 * half + n] + i % 2 * 2;
        pairs[n] = pack(s[0], s[1]);
      }
      if (is_kept(end.row(i)))
        skip[sample_of(end.row(i)) * 8 + 4 * half + end.t] = {pairs[0], pairs[1], pairs[2], pairs[3]};
    }
#endif
}
