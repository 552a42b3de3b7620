// Standard normal noise as a function of (seed, step, sample), bit for bit that of engine/diffusion/noise.py, for
// ends.cu. build.py compiles without fused multiply-add, as every operation of the definition rounds.

struct Words {
  u32 word[4];
};

// Philox4x32-10 (Salmon et al., SC 2011).
__device__ __forceinline__ Words philox(u64 block, u32 step, u64 seed) {
  u32 c0 = (u32)block, c1 = (u32)(block >> 32), c2 = step, c3 = 0, k0 = (u32)seed, k1 = (u32)(seed >> 32);
#pragma unroll
  for (int round = 0; round < 10; round++) {
    const u64 p0 = u64(0xD2511F53u) * c0, p1 = u64(0xCD9E8D57u) * c2;
    const u32 n0 = (u32)(p1 >> 32) ^ c1 ^ k0, n2 = (u32)(p0 >> 32) ^ c3 ^ k1;
    c1 = (u32)p1;
    c3 = (u32)p0;
    c0 = n0;
    c2 = n2;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return {{c0, c1, c2, c3}};
}

// ln(word / 2^32) by the polynomial of Cephes' logf; a word of 0 counts as 1.
__device__ __forceinline__ float log_uniform(u32 word) {
  const u32 bits = __float_as_uint((float)(word ? word : 1u));
  const float mantissa = __uint_as_float((bits & 0x007fffffu) | 0x3f000000u);
  const bool small = mantissa < 0.70710678f;
  const float e = (float)((int)(bits >> 23) - (126 + 32) - (small ? 1 : 0));
  const float m = (small ? mantissa + mantissa : mantissa) - 1.0f, z = m * m;
  float y = 7.0376836292e-2f * m + -1.1514610310e-1f;
  y = y * m + 1.1676998740e-1f;
  y = y * m + -1.2420140846e-1f;
  y = y * m + 1.4249322787e-1f;
  y = y * m + -1.6668057665e-1f;
  y = y * m + 2.0000714765e-1f;
  y = y * m + -2.4999993993e-1f;
  y = y * m + 3.3333331174e-1f;
  y = y * m * z;
  y = y + e * -2.12194440e-4f;
  y = y + -0.5f * z;
  return (m + y) + e * 0.693359375f;
}

// One of the two values of a Box-Muller transform.
__device__ __forceinline__ float box_muller(u32 radius_word, u32 angle_word, bool second) {
  const float radius = __fsqrt_rn(-2.0f * log_uniform(radius_word));
  const float phi = (float)((angle_word & 0x1fffffffu) >> 5) * 4.6813380e-08f;  // pi/4 * 2^-24
  const float z = phi * phi;
  float s = -1.9515295891e-4f * z + 8.3321608736e-3f;
  s = s * z + -1.6666654611e-1f;
  s = s * z * phi + phi;
  float c = 2.443315711809948e-5f * z + -1.388731625493765e-3f;
  c = c * z + 4.166664568298827e-2f;
  c = c * z * z + -0.5f * z + 1.0f;
  const float value = ((angle_word & 0x20000000u) != 0) != second ? s : c;
  return radius * (angle_word & (second ? 0x40000000u : 0x80000000u) ? -value : value);
}

__device__ __forceinline__ float normal(u64 seed, u32 step, u64 sample) {
  const Words words = philox(sample / 4, step, seed);
  const bool upper = sample & 2;  // no array with a computed index: it would lie in local memory
  return box_muller(upper ? words.word[2] : words.word[0], upper ? words.word[3] : words.word[1], sample & 1);
}
