// What a tier's file needs. It includes everything before the tier's target region begins: an inline function of the
// standard library compiled inside the region could be linked for every processor.
#pragma once

#include <algorithm>
#include <cstdint>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#include "../gate_table.h"
#include "../inline.h"
#include "../kernels.h"
#include "../noise.h"

// GCC and Clang spell a target region differently.
#define DIFFWAVE_PRAGMA(text) _Pragma(#text)
#if defined(__clang__)
#define DIFFWAVE_TARGET_BEGIN(list) \
  DIFFWAVE_PRAGMA(clang attribute push(__attribute__((target(list))), apply_to = function))
#define DIFFWAVE_TARGET_END _Pragma("clang attribute pop")
#else
#define DIFFWAVE_TARGET_BEGIN(list) _Pragma("GCC push_options") DIFFWAVE_PRAGMA(GCC target(list))
#define DIFFWAVE_TARGET_END _Pragma("GCC pop_options")
#endif
