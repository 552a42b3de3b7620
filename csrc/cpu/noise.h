// Standard normal noise as a function of (seed, step, sample). engine/diffusion/noise.py defines it in NumPy. This
// implementation gives the same bits: it uses integers and IEEE float32 add, multiply and square root in the same
// order, never fused.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

namespace diffwave {

struct Philox {
  uint32_t word[4];
};

// Philox4x32-10: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
inline Philox philox4x32(uint64_t block, uint32_t step, uint64_t seed) {
  uint32_t c0 = static_cast<uint32_t>(block), c1 = static_cast<uint32_t>(block >> 32), c2 = step, c3 = 0;
  uint32_t k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{0xD2511F53} * c0, p1 = uint64_t{0xCD9E8D57} * c2;
    const uint32_t n0 = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ k0, n2 = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ k1;
    c1 = static_cast<uint32_t>(p1);
    c3 = static_cast<uint32_t>(p0);
    c0 = n0;
    c2 = n2;
    k0 += 0x9E3779B9;
    k1 += 0xBB67AE85;
  }
  return {{c0, c1, c2, c3}};
}

// Natural logarithm of u * 2^-32 (u = 0 counts as 1), after Cephes' logf.
inline float log_uniform(uint32_t u) {
  float value = static_cast<float>(u == 0 ? 1u : u);
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  int exponent = static_cast<int>(bits >> 23) - 126 - 32;
  bits = (bits & 0x007fffff) | 0x3f000000;
  float m;
  std::memcpy(&m, &bits, sizeof m);
  if (m < 0.70710678f) {
    exponent -= 1;
    m = m + m;
  }
  m = m - 1.0f;
  const float e = static_cast<float>(exponent), z = m * m;
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

// Box-Muller transform: two uniform uint32 to two independent standard normals.
inline void box_muller(uint32_t radius_word, uint32_t angle_word, float* normal) {
  const float radius = std::sqrt(-2.0f * log_uniform(radius_word));
  const float phi = static_cast<float>((angle_word & 0x1fffffff) >> 5) * 4.6813380e-08f;  // pi/4 * 2^-24
  const float z = phi * phi;
  float s = -1.9515295891e-4f * z + 8.3321608736e-3f;
  s = s * z + -1.6666654611e-1f;
  s = s * z * phi + phi;
  float c = 2.443315711809948e-5f * z + -1.388731625493765e-3f;
  c = c * z + 4.166664568298827e-2f;
  c = c * z * z + -0.5f * z + 1.0f;
  if (angle_word & 0x20000000) {
    const float swap = s;
    s = c;
    c = swap;
  }
  normal[0] = radius * (angle_word & 0x80000000 ? -c : c);
  normal[1] = radius * (angle_word & 0x40000000 ? -s : s);
}

// out[i] = normal(seed, step, begin + i) for i < count; begin >= 0.
inline void normal(uint64_t seed, uint32_t step, int64_t begin, int64_t count, float* out) {
  float four[4];
  int64_t block = -1;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t sample = begin + i;
    if (sample / 4 != block) {
      block = sample / 4;
      const Philox p = philox4x32(static_cast<uint64_t>(block), step, seed);
      box_muller(p.word[0], p.word[1], four);
      box_muller(p.word[2], p.word[3], four + 2);
    }
    out[i] = four[sample % 4];
  }
}

}  // namespace diffwave
