// The helper functions of kernels are always inlined, so that register tiles stay in registers.
#pragma once
#define DIFFWAVE_INLINE static inline __attribute__((always_inline))
