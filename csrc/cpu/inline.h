#pragma once
#define DIFFWAVE_INLINE static inline __attribute__((always_inline))
