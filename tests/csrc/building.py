"""Builds tests/csrc/harness with csrc/cpu, as setup.py compiles it but for what a test wants otherwise."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CSRC = ROOT / "csrc"
HARNESS = Path(__file__).parent / "harness"


def compiler() -> list[str]:
    """The C++ compiler; skips where there is none."""
    command = shlex.split(os.environ.get("CXX", "c++"))
    if shutil.which(command[0]) is None:
        pytest.skip(f"no C++ compiler ({command[0]})")
    return command


def flags() -> list[str]:
    """Those of setup.py, without optimisation."""
    found = re.search(r'^FLAGS = "(.*)"$', (ROOT / "setup.py").read_text(), re.MULTILINE)
    assert found, "setup.py has no FLAGS"
    return [flag for flag in shlex.split(found[1]) if flag not in ("-O3", "-g0", "-fvisibility=hidden")]


def build(folder: Path, *extra: str, csrc: Path = CSRC) -> Path:
    """The harness, fenced; `extra` are more flags. Skips where a sanitizer's library is missing."""
    command = [*compiler(), *flags(), "-w", "-O1", "-g1", "-DDIFFWAVE_FENCE", f"-I{csrc}", *extra]
    _need(command, folder)
    sources = [*sorted(csrc.glob("cpu/**/*.cpp")), *sorted(HARNESS.glob("*.cpp"))]

    def compile_one(source: Path) -> Path:
        target = folder / f"{source.parent.name}-{source.stem}.o"
        subprocess.run([*command, "-c", str(source), "-o", str(target)], check=True)
        return target

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(compile_one, sources))
    subprocess.run([*command, *map(str, objects), "-o", str(folder / "harness")], check=True)
    return folder / "harness"


def _need(command: list[str], folder: Path) -> None:
    (folder / "empty.cpp").write_text("int main() {}\n")
    line = [*command, str(folder / "empty.cpp"), "-o", str(folder / "empty")]
    tried = subprocess.run(line, capture_output=True, text=True)
    if tried.returncode != 0:
        pytest.skip(f"the compiler cannot build with {' '.join(command[-3:])}: {tried.stderr.strip()[-200:]}")
