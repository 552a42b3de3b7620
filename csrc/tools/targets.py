"""Compile csrc for other systems with the Clang of the package `ziglang`: nothing is linked or run.

    python -m csrc.tools.targets [target ...]

The headers of CPython are those of the running interpreter. For Windows, windows_pyconfig.h replaces its pyconfig.h.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pybind11

from csrc.tools.wheels import ROOT, compiler

BUILD = ROOT / "build" / "targets"
TARGETS = ("x86_64-windows-gnu", "aarch64-windows-gnu", "x86_64-macos", "aarch64-macos")
FLAGS = "-std=c++17 -O1 -ffp-contract=off -fvisibility=hidden -Wall -Wextra -Werror -DNOMINMAX"


def python_headers() -> Path:
    """Copy the headers of CPython with the configuration of a Windows installation, and return their folder."""
    headers = BUILD / "windows-python"
    shutil.rmtree(headers, ignore_errors=True)
    shutil.copytree(sysconfig.get_path("include"), headers)
    shutil.copy(Path(__file__).with_name("windows_pyconfig.h"), headers / "pyconfig.h")
    return headers


def compile_for(target: str, source: Path) -> str:
    """Compile one file of csrc, and return the messages of the compiler."""
    out = BUILD / target / f"{source.stem}.o"
    out.parent.mkdir(parents=True, exist_ok=True)
    python = BUILD / "windows-python" if "windows" in target else sysconfig.get_path("include")
    # As system headers, so that their warnings do not count.
    command = [*compiler(target).split(), *FLAGS.split(), "-isystem", python, "-isystem", pybind11.get_include()]
    done = subprocess.run([*command, "-c", source, "-o", out], capture_output=True, text=True, cwd=ROOT, check=False)
    return f"{target}: {source.relative_to(ROOT)}\n{done.stderr}" if done.returncode else ""


def main(targets: list[str]) -> None:
    """Compile all of csrc for some targets; exit with the messages of those that fail."""
    python_headers()
    sources = sorted((ROOT / "csrc").rglob("*.cpp"))
    for target in targets:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            errors = list(filter(None, pool.map(lambda source, target=target: compile_for(target, source), sources)))
        if errors:
            sys.exit("\n".join(errors))
        print(f"{target}: {len(sources)} files compile", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:] or list(TARGETS))
