// What this processor and its operating system support. Not by __builtin_cpu_supports: some compilers (zig) link a
// runtime library in which it is always false.
#pragma once

#if defined(__x86_64__)
#include <cpuid.h>

#include <cstdlib>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#elif defined(__aarch64__) && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#elif defined(__aarch64__) && defined(_WIN32)
#include <windows.h>
#endif

namespace diffwave {

#if defined(__x86_64__)

struct Processor {
  bool avx2 = false;    // and FMA
  bool avx512 = false;  // F, BW, DQ and VL, and AVX2
  bool avxvnni = false, avx512vnni = false, avx512bf16 = false;
  bool amx = false;  // tile registers, with int8 and bf16 products
};

// The registers that the operating system saves (XCR0).
inline unsigned saved_registers() {
  unsigned low, high;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return low;
}

// Tests emulate the tile registers where the processor lacks them (tests/csrc/harness/tile_emulator.cpp).
inline bool emulates_tiles() {
  const char* value = std::getenv("DIFFWAVE_EMULATED_TILES");
  return value && *value;
}

// Asks the system for the tile registers, for all threads of the process. Linux denies them to a process that has not
// asked, because signal handlers then need larger stacks.
inline bool ask_for_tiles() {
#if defined(__linux__)
  constexpr long kRequest = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILE_DATA
  return syscall(SYS_arch_prctl, kRequest, kTileData) == 0 || emulates_tiles();
#else
  return false;
#endif
}

inline Processor detect_processor() {
  Processor found;
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (!__get_cpuid(1, &a, &b, &c, &d)) return found;
  const auto bit = [](unsigned word, int i) { return (word >> i & 1) != 0; };
  const bool fma = bit(c, 12), xsave = bit(c, 27), avx = bit(c, 28);
  if (!xsave || !avx || !__get_cpuid_count(7, 0, &a, &b, &c, &d)) return found;
  const unsigned saved = saved_registers(), subleaves = a;
  const bool tiles = bit(d, 22) && bit(d, 24) && bit(d, 25) && (saved >> 17 & 3) == 3;  // AMX-BF16, AMX-TILE, AMX-INT8
#if defined(__APPLE__)
  const bool saves512 = true;  // macOS sets the bits of AVX-512 at the first use
#else
  const bool saves512 = (saved & 0xe0) == 0xe0;
#endif
  found.avx2 = fma && bit(b, 5) && (saved & 6) == 6;
  found.avx512 = found.avx2 && saves512 && bit(b, 16) && bit(b, 17) && bit(b, 30) && bit(b, 31);
  found.avx512vnni = found.avx512 && bit(c, 11);
  if (subleaves < 1 || !__get_cpuid_count(7, 1, &a, &b, &c, &d)) return found;
  found.avxvnni = found.avx2 && bit(a, 4);
  found.avx512bf16 = found.avx512vnni && bit(a, 5);
  found.amx = found.avx512bf16 && (tiles || emulates_tiles());
  return found;
}

#elif defined(__aarch64__)

struct Processor {
  bool dotprod = false;
};

inline Processor detect_processor() {
#if defined(__linux__)
  return {(getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0};
#elif defined(__APPLE__)
  return {true};  // all Apple processors in Macs
#elif defined(_WIN32)
  return {IsProcessorFeaturePresent(PF_ARM_V82_DP_INSTRUCTIONS_AVAILABLE) != 0};
#else
  return {};
#endif
}

#endif

}  // namespace diffwave
