"""The tile registers of AMX on a processor that lacks them: a plugin, `pytest -p tests.csrc.tile_emulation`.

TILE_EMULATOR names the library that `build` compiles. The tier `amx` then counts as supported on a processor with
AVX-512 BF16. Without `-p no:faulthandler`, that plugin would take the signal.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import Any

from tests.csrc.building import CXX, FLAGS, HARNESS, call

LIBRARY = "TILE_EMULATOR"


def build(folder: Path) -> Path:
    """Compile the emulator as a library, and return its path."""
    library = folder / "tile_emulator.so"
    source = HARNESS / "tile_emulator.cpp"
    call(
        *CXX.split(), *FLAGS.split(), "-O3", "-mavx2", "-mfma", "-fvisibility=default", "-shared", source, "-o", library
    )
    return library


def _installed(path: str) -> Any:
    emulator = ctypes.CDLL(path)
    emulator.executed_tile_instructions.restype = ctypes.c_int64
    if emulator.install_tile_emulator():
        raise OSError("the handler of SIGILL cannot be installed")
    os.environ["DIFFWAVE_EMULATED_TILES"] = "1"  # read when the native module first lists the tiers
    return emulator


_emulator = _installed(os.environ[LIBRARY]) if LIBRARY in os.environ else None


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print how many instructions were emulated."""
    if _emulator is not None:
        terminalreporter.write_line(f"emulated {_emulator.executed_tile_instructions()} tile instructions")
