// Random test cases for csrc/cpu: results do not depend on tiles, threads or windows, to the last bit. Prints the
// number of cases of each kind, or the first failure, which `--case` repeats.
//
//   harness --cases N --seed S [--seconds MAX] [--tier NAME]
//   harness --case SEED [--tier NAME]
//   harness --overrun piece | signal      tests the fences: writes past a piece of memory, reads past a signal
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <map>

#include "cases.h"
#include "tile_emulator.h"

namespace diffwave::emulated {
Operations<Bf16> bf16();
}

namespace harness {
namespace {

// One precision of a tier.
struct Target {
  std::string name;
  Operations<float> fp32;
  Operations<diffwave::Bf16> bf16;
};

std::vector<Target> targets(const std::string& tier) {
  std::vector<Target> all;
  const auto add = [&](const Target& target) {
    const std::string name = target.name.substr(0, target.name.find(' '));
    if (tier.empty() || tier == name || tier == target.name) all.push_back(target);
  };
  for (const diffwave::Tier& candidate : diffwave::tiers()) {
    if (!candidate.supported || (candidate.ask && !candidate.ask())) continue;
    if (candidate.fp32.width) add({candidate.name + std::string(" fp32"), candidate.fp32, {}});
    if (candidate.bf16.width) add({candidate.name + std::string(" bf16"), {}, candidate.bf16});
  }
  add({"emulated bf16", {}, diffwave::emulated::bf16()});
  return all;
}

struct Options {
  uint64_t seed = 0;
  long cases = 1000;
  double seconds = 1e9;
  std::string tier, overrun;
};

Options parse(int count, char** arguments) {
  std::map<std::string, std::string> values;
  for (int i = 1; i + 1 < count; i += 2) values[arguments[i]] = arguments[i + 1];
  Options options;
  for (const auto& [name, value] : values) {
    if (name == "--seed" || name == "--case") options.seed = std::stoull(value);
    if (name == "--cases") options.cases = std::stol(value);
    if (name == "--case") options.cases = 1;
    if (name == "--seconds") options.seconds = std::stod(value);
    if (name == "--tier") options.tier = value;
    if (name == "--overrun") options.overrun = value;
  }
  return options;
}

template <class E>
void run_case(Kind kind, Random& random, const Operations<E>& operations) {
  const Job<E> job = kind == kComposed ? Job<E>(random, operations, false) : Job<E>(random, operations);
  try {
    check(kind, random, job);
  } catch (const Difference& difference) {
    throw Difference(std::string(difference.what()) + " (" + job.description() + ")");
  }
}

Kind run_case(uint64_t seed, const std::vector<Target>& targets) {
  Random random(seed);
  const Target& target = targets[static_cast<size_t>(random.below(1 << 20)) % targets.size()];
  const Kind kind = random_kind(random);
  try {
    if (target.fp32.width)
      run_case(kind, random, target.fp32);
    else
      run_case(kind, random, target.bf16);
  } catch (const std::exception& error) {
    std::printf("case %llu, %s: %s\nrepeat with --case %llu --tier '%s'\n", static_cast<unsigned long long>(seed),
                kNames[kind], error.what(), static_cast<unsigned long long>(seed), target.name.c_str());
    std::exit(1);
  }
  return kind;
}

// Returns only if the overrun goes unnoticed.
int overrun(const std::string& target) {
  constexpr size_t kCount = 3 * diffwave::kAlignment;
  if (target == "piece") {
    diffwave::Arena sizes;
    for (int i = 0; i < 2; ++i) sizes.take<char>(kCount);
    const diffwave::Buffer buffer(sizes.used());
    diffwave::Arena arena(buffer.data());
    volatile char* piece = arena.take<char>(kCount);
    arena.take<char>(kCount);
    piece[kCount] = 1;
  } else {
    Random random(0);
    const Job<float> job(random, diffwave::tiers()[0].fp32);
    Window window;
    window.open(random, job, job.x, {0, job.length}, {}, {});
    volatile float* x = window.from_step(0).x.data;
    static_cast<void>(x[job.length]);
  }
  return 0;
}

int run_cases(const Options& options) {
  using Clock = std::chrono::steady_clock;
  const std::vector<Target> all = targets(options.tier);
  if (all.empty()) {
    std::printf("--tier: expected one of this processor, got '%s'\n", options.tier.c_str());
    return 2;
  }
  const auto start = Clock::now();
  const auto elapsed = [&] { return std::chrono::duration<double>(Clock::now() - start).count(); };
  long counts[kKinds] = {}, total = 0;
  for (; total < options.cases && elapsed() < options.seconds; ++total)
    ++counts[run_case(options.seed + static_cast<uint64_t>(total), all)];
  std::printf("%ld cases in %.0f s:", total, elapsed());
  for (int kind = 0; kind < kKinds; ++kind) std::printf(" %s %ld", kNames[kind], counts[kind]);
  std::printf("\n");
  return 0;
}

}  // namespace
}  // namespace harness

int main(int count, char** arguments) {
  if (install_tile_emulator() == 0) setenv("DIFFWAVE_EMULATED_TILES", "1", 1);  // before the first call of tiers()
  const harness::Options options = harness::parse(count, arguments);
  return options.overrun.empty() ? harness::run_cases(options) : harness::overrun(options.overrun);
}
