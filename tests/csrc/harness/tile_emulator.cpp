// Executes the tile instructions of AMX on a processor that lacks them, for tests of the tier `amx`: a handler of
// SIGILL decodes the instruction, computes its result as Intel's manual states it (volume 2, AMX instructions) and
// continues after it. What the manual forbids, such as operands of unequal shapes, ends the process with a message.
#include "tile_emulator.h"

#if defined(__x86_64__) && defined(__linux__)
#include <signal.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>
#include <xmmintrin.h>

#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace {

constexpr int kTiles = 8, kRows = 16, kBytes = 64;

struct Tiles {
  std::atomic<long> thread{0};
  bool configured = false;
  int rows[kTiles], bytes[kTiles];
  alignas(64) uint8_t data[kTiles][kRows][kBytes];
};

constexpr int kThreads = 256;  // at once
Tiles tiles_of_thread[kThreads];
std::atomic<int64_t> executed{0};
struct sigaction previous;

[[noreturn]] void fail(const char* message) {
  std::fprintf(stderr, "tile emulator: %s\n", message);
  std::abort();
}

Tiles& tiles_of_this_thread() {
  const long id = syscall(SYS_gettid);
  for (Tiles& tiles : tiles_of_thread)
    if (tiles.thread.load() == id) return tiles;
  for (Tiles& tiles : tiles_of_thread) {
    long nobody = 0;
    if (tiles.thread.compare_exchange_strong(nobody, id)) return tiles;
  }
  fail("too many threads");
}

void configure(Tiles& tiles, const uint8_t* shapes) {
  if (tiles.configured) fail("ldtilecfg: the kernel before did not release its tiles");  // stricter than the manual
  tiles.configured = shapes[0] != 0;
  if (shapes[0] > 1 || shapes[1] != 0) fail("ldtilecfg: palette 1 and start row 0 only");
  for (int i = 2; i < 16; ++i)
    if (shapes[i]) fail("ldtilecfg: reserved bytes are set");
  for (int i = 0; i < 16; ++i) {
    const int bytes = shapes[16 + 2 * i] | shapes[17 + 2 * i] << 8, rows = shapes[48 + i];
    if (i >= kTiles ? bytes || rows : bytes > kBytes || rows > kRows || !bytes != !rows) fail("ldtilecfg: bad shape");
    if (i >= kTiles) continue;
    tiles.bytes[i] = bytes;
    tiles.rows[i] = rows;
  }
  std::memset(tiles.data, 0, sizeof tiles.data);
}

float widened(uint16_t bits) {
  const uint32_t wide = static_cast<uint32_t>(bits) << 16;
  float value;
  std::memcpy(&value, &wide, sizeof value);
  return value;
}

// Two sums per output, over the even and the odd inputs, by fused multiply-adds that flush denormal numbers.
void multiply_bf16(Tiles& tiles, int sums, int left, int right) {
  for (int m = 0; m < tiles.rows[sums]; ++m) {
    float even[16] = {}, odd[16] = {}, out[16];
    for (int k = 0; k < tiles.bytes[left] / 4; ++k) {
      uint16_t x[2], w[16][2];
      std::memcpy(x, tiles.data[left][m] + 4 * k, sizeof x);
      std::memcpy(w, tiles.data[right][k], sizeof w);
      for (int n = 0; n < 16; ++n) {
        even[n] = std::fma(widened(x[0]), widened(w[n][0]), even[n]);
        odd[n] = std::fma(widened(x[1]), widened(w[n][1]), odd[n]);
      }
    }
    std::memcpy(out, tiles.data[sums][m], sizeof out);
    for (int n = 0; n < tiles.bytes[sums] / 4; ++n) out[n] += even[n] + odd[n];
    std::memcpy(tiles.data[sums][m], out, sizeof out);
  }
}

// uint8 rows times int8 weights.
void multiply_int8(Tiles& tiles, int sums, int left, int right) {
  for (int m = 0; m < tiles.rows[sums]; ++m) {
    int32_t out[16];
    std::memcpy(out, tiles.data[sums][m], sizeof out);
    for (int k = 0; k < tiles.bytes[left] / 4; ++k) {
      int8_t w[16][4];
      std::memcpy(w, tiles.data[right][k], sizeof w);
      for (int i = 0; i < 4; ++i) {
        const int32_t x = tiles.data[left][m][4 * k + i];
        for (int n = 0; n < tiles.bytes[sums] / 4; ++n) out[n] += x * w[n][i];
      }
    }
    std::memcpy(tiles.data[sums][m], out, sizeof out);
  }
}

void check_product(const Tiles& tiles, int sums, int left, int right) {
  if (sums == left || sums == right || left == right) fail("product: operands must differ");
  if (tiles.rows[sums] != tiles.rows[left] || tiles.bytes[sums] != tiles.bytes[right] ||
      tiles.bytes[left] != 4 * tiles.rows[right])
    fail("product: operands of unequal shapes");
  if (!tiles.rows[sums] || !tiles.bytes[left]) fail("product: an operand has no shape");
}

// The general registers in the order of their numbers.
constexpr int kRegisters[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                                REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};

struct Memory {
  uint8_t* address;  // base and displacement
  int64_t index;     // the scaled index, the stride of rows
  int length;        // bytes of ModRM, SIB and displacement
};

Memory memory_operand(const greg_t* registers, const uint8_t* modrm, bool extend_index, bool extend_base) {
  const int mode = modrm[0] >> 6, rm = modrm[0] & 7;
  const uint8_t* rest = modrm + 1;
  int base = rm + 8 * extend_base;
  int64_t index = 0;
  bool no_base = false;
  if (rm == 4) {
    const uint8_t sib = *rest++;
    const int number = (sib >> 3 & 7) + 8 * extend_index;
    if (number != 4) index = registers[kRegisters[number]] << (sib >> 6);
    base = (sib & 7) + 8 * extend_base;
    no_base = (sib & 7) == 5 && mode == 0;
  } else if (rm == 5 && mode == 0) {
    fail("an address relative to the instruction is not supported");
  }
  int64_t offset = 0;
  if (mode == 1) offset = static_cast<int8_t>(*rest++);
  if (mode == 2 || no_base) {
    int32_t wide;
    std::memcpy(&wide, rest, sizeof wide);
    offset = wide;
    rest += sizeof wide;
  }
  const int64_t start = (no_base ? 0 : registers[kRegisters[base]]) + offset;
  return {reinterpret_cast<uint8_t*>(start), index, static_cast<int>(rest - modrm)};
}

// Executes the instruction at the program counter; false if it is none of AMX.
bool execute(greg_t* registers) {
  const uint8_t* code = reinterpret_cast<const uint8_t*>(registers[REG_RIP]);
  if (code[0] != 0xc4 || (code[1] & 0x1f) != 2 || (code[2] & 0x84) != 0) return false;  // VEX.128.0F38.W0
  const int prefix = code[2] & 3, opcode = code[3], third = ~code[2] >> 3 & 15;
  enum { kNone, k66, kF3, kF2 };
  const uint8_t* modrm = code + 4;
  const bool registers_only = modrm[0] >> 6 == 3;
  const int reg = modrm[0] >> 3 & 7, rm = modrm[0] & 7;
  Tiles& tiles = tiles_of_this_thread();
  int length = 5;
  const auto memory = [&] {
    const Memory operand = memory_operand(registers, modrm, !(code[1] & 0x40), !(code[1] & 0x20));
    length = 4 + operand.length;
    return operand;
  };
  if (opcode == 0x49 && prefix == kNone && !registers_only) {
    configure(tiles, memory().address);
  } else if (opcode == 0x49 && prefix == kNone && modrm[0] == 0xc0) {
    tiles.configured = false;
    tiles.thread = 0;  // free for another thread
  } else if (opcode == 0x49 && prefix == kF2 && registers_only) {
    if (!tiles.configured) fail("tilezero before ldtilecfg");
    std::memset(tiles.data[reg], 0, sizeof tiles.data[reg]);
  } else if (opcode == 0x4b && (prefix == kF2 || prefix == kF3) && !registers_only && rm == 4) {
    if (!tiles.configured) fail("tileloadd or tilestored before ldtilecfg");
    const Memory operand = memory();
    const size_t bytes = static_cast<size_t>(tiles.bytes[reg]);
    if (prefix == kF2) std::memset(tiles.data[reg], 0, sizeof tiles.data[reg]);
    for (int row = 0; row < tiles.rows[reg]; ++row) {
      uint8_t* at = operand.address + row * operand.index;
      prefix == kF2 ? std::memcpy(tiles.data[reg][row], at, bytes) : std::memcpy(at, tiles.data[reg][row], bytes);
    }
  } else if ((opcode == 0x5c && prefix == kF3) || (opcode == 0x5e && prefix == k66)) {
    if (!tiles.configured || !registers_only) fail("product before ldtilecfg");
    check_product(tiles, reg, rm, third);
    opcode == 0x5c ? multiply_bf16(tiles, reg, rm, third) : multiply_int8(tiles, reg, rm, third);
  } else {
    return false;
  }
  registers[REG_RIP] += length;
  return true;
}

void handle(int signal, siginfo_t* info, void* context) {
  const unsigned state = _mm_getcsr();
  _mm_setcsr(0x9fc0);  // rounds to nearest, flushes denormal numbers, raises nothing
  greg_t* registers = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
  int64_t count = 0;
  while (execute(registers)) ++count;
  _mm_setcsr(state);
  executed += count;
  if (count) return;
  sigaction(SIGILL, &previous, nullptr);  // not ours: the instruction is met again, and the earlier handler has it
  (void)signal, (void)info;
}

}  // namespace

extern "C" int install_tile_emulator() {
  struct sigaction action = {};
  action.sa_sigaction = handle;
  action.sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK;
  return sigaction(SIGILL, &action, &previous);
}

extern "C" int64_t executed_tile_instructions() { return executed.exchange(0); }
#else
extern "C" int install_tile_emulator() { return -1; }
extern "C" int64_t executed_tile_instructions() { return 0; }
#endif
