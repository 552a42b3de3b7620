// The list of tiers (instruction sets) and their detection on this processor.
#include "kernels.h"

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

namespace diffwave {

namespace generic {
Operations<float> fp32();
}
#if defined(__x86_64__)
namespace avx2 {
Operations<float> fp32();
}
namespace avxvnni {
Operations<float> fp32();
}
namespace avx512 {
Operations<float> fp32();
}
namespace avx512vnni {
Operations<float> fp32();
}
namespace avx512bf16 {
Operations<Bf16> bf16();
}
#elif defined(__aarch64__)
namespace neon {
Operations<float> fp32();
}
namespace dotprod {
Operations<float> fp32();
}
#endif

const std::vector<Tier>& tiers() {
  static const std::vector<Tier> all = [] {
    std::vector<Tier> list = {{"generic", true, "any processor", generic::fp32(), {}}};
#if defined(__x86_64__)
    __builtin_cpu_init();
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    const bool vnni = avx512 && __builtin_cpu_supports("avx512vnni");
    const bool bf16 = vnni && __builtin_cpu_supports("avx512bf16");
    list.push_back({"avx2", avx2, "AVX2 and FMA", avx2::fp32(), {}});
#if defined(DIFFWAVE_AVXVNNI)
#if defined(DIFFWAVE_VNNI_AS_AVX512)
    const bool avxvnni = __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
#else
    unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
    const bool avxvnni = avx2 && __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) && (eax >> 4 & 1);
#endif
    list.push_back({"avxvnni", avxvnni, "AVX-VNNI, AVX2 and FMA", avxvnni::fp32(), {}});
#endif
    list.push_back({"avx512", avx512, "AVX-512 F, BW, DQ and VL", avx512::fp32(), {}});
    list.push_back({"avx512vnni", vnni, "AVX-512 with VNNI", avx512vnni::fp32(), {}});
    list.push_back({"avx512bf16", bf16, "AVX-512 with VNNI and BF16", avx512vnni::fp32(), avx512bf16::bf16()});
#elif defined(__aarch64__)
    list.push_back({"neon", true, "NEON (any 64-bit Arm)", neon::fp32(), {}});
#if defined(__linux__)
    const bool dotprod = getauxval(AT_HWCAP) & HWCAP_ASIMDDP;
#elif defined(__APPLE__)
    const bool dotprod = true;  // all Apple processors in Macs
#else
    const bool dotprod = false;
#endif
    list.push_back({"dotprod", dotprod, "NEON with the int8 dot product", dotprod::fp32(), {}});
#endif
    return list;
  }();
  return all;
}

}  // namespace diffwave
