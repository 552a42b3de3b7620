// The headers of a tier's file, and the macros for its target region. Include them before the region begins: an inline
// function of the standard library compiled inside the region could be linked for every processor.
#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#include "../residual_block/gate_table.h"
#include "../inline.h"
#include "../kernels.h"
#include "../noise.h"

// A target region compiles the functions in it for an instruction set. GCC and Clang spell it differently.
#define DIFFWAVE_PRAGMA(text) _Pragma(#text)
#if defined(__clang__)
#define DIFFWAVE_TARGET_BEGIN(list) \
  DIFFWAVE_PRAGMA(clang attribute push(__attribute__((target(list))), apply_to = function))
#define DIFFWAVE_TARGET_END _Pragma("clang attribute pop")
#else
#define DIFFWAVE_TARGET_BEGIN(list) _Pragma("GCC push_options") DIFFWAVE_PRAGMA(GCC target(list))
#define DIFFWAVE_TARGET_END _Pragma("GCC pop_options")
#endif
