"""Build the harness (tests/csrc/harness) with csrc/cpu, unchanged or with a planted mistake."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.paths import ROOT

HARNESS = Path(__file__).parent / "harness"
CSRC = ROOT / "csrc"
CXX = os.environ.get("CXX", "c++")
SETUP = (CSRC.parent / "setup.py").read_text()
# The flags of setup.py, with debug information and without warnings, which the build of the module shows.
FLAGS = " ".join(re.findall(r'^FLAGS = "(.*?)"$', SETUP, re.MULTILINE)).replace("-O3 -g0", "-O1 -g") + " -w"
assert "-O1 -g" in FLAGS and "-ffp-contract=off" in FLAGS

needs_compiler = pytest.mark.skipif(shutil.which(CXX.split()[0]) is None, reason=f"no C++ compiler: {CXX}")


@dataclass(frozen=True)
class Change:
    """A replacement of text that occurs once in a file of csrc.

    Attributes:
        file: Path relative to csrc.
        old: Text to replace.
        new: Replacement.
    """

    file: str
    old: str
    new: str


# Most cases have more threads than processors, so a waiting thread must yield soon.
IMPATIENT = Change("cpu/team.cpp", "kSpins = 4000", "kSpins = 20")


@dataclass(frozen=True)
class Build:
    """A compiled harness.

    Attributes:
        program: Path of the executable.
        flags: Additional compiler flags.
        objects: Object files by source, relative to csrc or to the harness.
    """

    program: Path
    flags: tuple[str, ...]
    objects: dict[str, Path]


def build(folder: Path, *flags: str) -> Build:
    """Compile the harness with csrc/cpu."""
    sources = [path.relative_to(CSRC).as_posix() for path in CSRC.glob("cpu/**/*.cpp")]
    sources += [path.name for path in HARNESS.glob("*.cpp")]
    return _build(folder, sources, [IMPATIENT], flags, {})


def rebuild(base: Build, folder: Path, change: Change, sources: Sequence[str]) -> Build:
    """Compile `sources` again with a change of csrc, and link them with the other objects of `base`."""
    return _build(folder, sources, [IMPATIENT, change], base.flags, base.objects)


def _build(
    folder: Path, sources: Iterable[str], changes: Iterable[Change], flags: tuple[str, ...], others: dict[str, Path]
) -> Build:
    csrc = _changed(folder, changes)

    def compiled(source: str) -> tuple[str, Path]:
        path, out = csrc / source if "/" in source else HARNESS / source, folder / f"{source.replace('/', '_')}.o"
        call(*CXX.split(), *FLAGS.split(), *flags, f"-I{csrc}", "-c", path, "-o", out)
        return source, out

    # The tiers and the harness first: they take longest.
    in_order = sorted(sources, key=lambda source: "/" in source and "isa/" not in source)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = others | dict(pool.map(compiled, in_order))
    call(*CXX.split(), *flags, "-pthread", *objects.values(), "-o", folder / "harness")
    return Build(folder / "harness", flags, objects)


def _changed(folder: Path, changes: Iterable[Change]) -> Path:
    csrc = folder / "csrc"
    shutil.copytree(CSRC / "cpu", csrc / "cpu")
    for change in changes:
        path = csrc / change.file
        text = path.read_text()
        assert text.count(change.old) == 1, f"{change.file}: expected one occurrence of: {change.old}"
        path.write_text(text.replace(change.old, change.new))
    return csrc


def call(*command: str | Path) -> None:
    """Run a command that must succeed."""
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stderr}"
