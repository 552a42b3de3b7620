"""The C++ compiler of the native module and its arguments on this system.

csrc needs GCC or Clang: it uses vector types, target regions and inline assembly that Microsoft's own compiler lacks.
On Windows it therefore needs Clang, which finds the headers and libraries of Visual Studio itself.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

WINDOWS = sys.platform == "win32"
ADVICE = "Install g++ or clang++"
if WINDOWS:
    ADVICE = "Install LLVM, or Visual Studio's component 'C++ Clang tools for Windows'"


def command() -> list[str]:
    """Return the command of the compiler: CXX, or the one of the system.

    Raises:
        SystemExit: there is no compiler, or it is Microsoft's.
    """
    words = shlex.split(os.environ.get("CXX", ""), posix=not WINDOWS) or [_on_windows() if WINDOWS else "c++"]
    words[0] = words[0].strip('"')
    if shutil.which(words[0]) is None:
        sys.exit(f"error: no C++17 compiler: '{words[0]}' was not found. {ADVICE}, or set CXX.")
    name = Path(words[0]).stem.lower()
    if name == "cl":
        sys.exit(f"error: CXX: expected Clang or GCC, got '{words[0]}', which cannot compile csrc. {ADVICE}.")
    # clang-cl takes the arguments of other systems in this mode.
    return [*words, "--driver-mode=g++"] if name == "clang-cl" else words


def arguments(flags: str) -> tuple[str, str]:
    """Return the arguments that compile and link, with those of CXXFLAGS, LDFLAGS and ARCHFLAGS.

    Args:
        flags: the arguments that compile on Linux.
    """
    compiling, linking = flags.split(), ["-shared", "-Wl,-z,noexecstack", "-pthread"]
    if sys.platform == "darwin":
        linking = ["-bundle", "-undefined", "dynamic_lookup", "-pthread"]
        compiling += (architecture := os.environ.get("ARCHFLAGS", "").split())
        linking += architecture
    elif WINDOWS:
        library = Path(sys.base_prefix, "libs")
        compiling = [flag for flag in compiling if flag not in ("-fPIC", "-pthread")]
        compiling += ["-fms-runtime-lib=dll", "-DNOMINMAX"]
        compiling += ["-DPy_GIL_DISABLED=1"] if sysconfig.get_config_var("Py_GIL_DISABLED") else []
        linking = ["-shared", "-fms-runtime-lib=dll", f'-L"{library}"']
    return (
        " ".join([*compiling, os.environ.get("CXXFLAGS", "")]).strip(),
        " ".join([*linking, os.environ.get("LDFLAGS", "")]).strip(),
    )


def _on_windows() -> str:
    """Find Clang in the search path, in LLVM's folder or in Visual Studio."""
    programs = Path(os.environ.get("PROGRAMFILES", r"C:\Program Files"))
    candidates: list[str | Path | None] = [shutil.which("clang-cl"), shutil.which("clang++")]
    candidates.append(programs / "LLVM" / "bin" / "clang-cl.exe")
    studio = Path(os.environ.get("PROGRAMFILES(X86)", r"C:\Program Files (x86)"), "Microsoft Visual Studio")
    finder = studio / "Installer" / "vswhere.exe"
    if finder.is_file():
        query = [str(finder), "-latest", "-products", "*", "-find", r"VC\Tools\Llvm\x64\bin\clang-cl.exe"]
        candidates += subprocess.run(query, capture_output=True, text=True, check=False).stdout.splitlines()
    return next((str(path) for path in candidates if path is not None and Path(path).is_file()), "clang-cl")
