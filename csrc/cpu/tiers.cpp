// The list of tiers (instruction sets) and their detection on this processor.
#include "kernels.h"
#include "processor.h"

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
namespace amx {
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
    const Processor processor = detect_processor();
    list.push_back({"avx2", processor.avx2, "AVX2 and FMA", avx2::fp32(), {}});
#if defined(DIFFWAVE_AVXVNNI)
#if defined(DIFFWAVE_VNNI_AS_AVX512)
    const bool avxvnni = processor.avx512vnni;
#else
    const bool avxvnni = processor.avxvnni;
#endif
    list.push_back({"avxvnni", avxvnni, "AVX-VNNI, AVX2 and FMA", avxvnni::fp32(), {}});
#endif
    list.push_back({"avx512", processor.avx512, "AVX-512 F, BW, DQ and VL", avx512::fp32(), {}});
    list.push_back({"avx512vnni", processor.avx512vnni, "AVX-512 with VNNI", avx512vnni::fp32(), {}});
    list.push_back(
        {"avx512bf16", processor.avx512bf16, "AVX-512 with VNNI and BF16", avx512vnni::fp32(), avx512bf16::bf16()});
#if defined(DIFFWAVE_AMX)
    list.push_back({"amx", processor.amx, "AMX, and AVX-512 with VNNI and BF16", {}, amx::bf16(), ask_for_tiles});
#endif
#elif defined(__aarch64__)
    list.push_back({"neon", true, "NEON (any 64-bit Arm)", neon::fp32(), {}});
    const bool dotprod = detect_processor().dotprod;
    list.push_back({"dotprod", dotprod, "NEON with the int8 dot product", dotprod::fp32(), {}});
#endif
    return list;
  }();
  return all;
}

}  // namespace diffwave
