// The two ends of a step, for the kernels of groups of layers: from the audio to h, and from eps back to the audio.
// Macros: READ_NOISE reads the noise instead of drawing it; SCALED multiplies it by a scale.

#include "noise.cu"

// `reference.input_projection`: channels 8 plane .. 8 plane + 7 of one sample of h.
__device__ __forceinline__ uint4 project_input(float x, const float* __restrict__ weight,
                                               const float* __restrict__ bias, int plane) {
  float channels[8];
#pragma unroll
  for (int k = 0; k < 8; k++) channels[k] = fmaxf(fmaf(x, weight[8 * plane + k], bias[8 * plane + k]), 0.0f);
  return {pack(channels[0], channels[1]), pack(channels[2], channels[3]), pack(channels[4], channels[5]),
          pack(channels[6], channels[7])};
}

// `reference.noise_update` of one sample: terms holds a, b, sigma and limit. `at` is its place in the batch, `sample`
// its number in the item's buffer, which begins at sample `begin` of the item.
__device__ __forceinline__ void update_audio(float* audio, float eps, const float* terms, const float* noise,
                                             const float* scale, u64 at, u64 seed, u32 noise_step, u64 begin,
                                             int sample) {
  const float sigma = terms[2], limit = terms[3];
  float x = terms[0] * audio[at] + terms[1] * eps;
  if (sigma != 0.0f) {
#ifdef READ_NOISE
    float z = noise[at];
#else
    float z = normal(seed, noise_step, begin + sample);
#endif
#ifdef SCALED
    z *= scale[at];
#endif
    x += sigma * z;
  }
  audio[at] = fminf(fmaxf(x, -limit), limit);
}
