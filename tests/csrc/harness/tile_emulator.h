// The tile instructions of AMX on a processor that lacks them: tile_emulator.cpp.
#pragma once

#include <cstdint>

// Installs the handler of SIGILL. Returns 0, or -1 if that is impossible here.
extern "C" int install_tile_emulator();

// Returns the number of instructions that were executed since the last call.
extern "C" int64_t executed_tile_instructions();
