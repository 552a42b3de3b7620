"""Builds the native module with ninja. Everything else about the package is in pyproject.toml."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import ninja
import pybind11
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

SOURCES = sorted(str(p) for p in Path("csrc").rglob("*.cpp"))
FLAGS = "-std=c++17 -O3 -g0 -fPIC -fvisibility=hidden -ffp-contract=off -pthread -Wall -Wextra"
# GCC's own AVX-512 intrinsics trip these two.
FLAGS += " -Wno-uninitialized -Wno-maybe-uninitialized"
BUNDLE = "-bundle -undefined dynamic_lookup" if sys.platform == "darwin" else "-shared -Wl,-z,noexecstack"


class NinjaBuild(build_ext):
    def build_extension(self, ext):
        cxx = os.environ.get("CXX", "c++")
        if shutil.which(cxx.split()[0]) is None:
            sys.exit(f"error: no C++17 compiler: '{cxx}' was not found. Install g++ or clang++, or set CXX.")
        folder, target = Path(self.build_temp).absolute(), Path(self.get_ext_fullpath(ext.name)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        include = f"-I{sysconfig.get_path('include')} -I{pybind11.get_include()}"
        esc = lambda path: str(path).replace("$", "$$").replace(":", "$:").replace(" ", "$ ")  # noqa: E731
        objects = {
            str(Path(s).absolute()): folder / Path(s).with_suffix(".o").as_posix().replace("/", "_")
            for s in ext.sources
        }
        rules = [f"rule cc\n command = {cxx} {FLAGS} {include} -MD -MF $out.d -c $in -o $out\n depfile = $out.d\n"]
        rules += [f"rule link\n command = {cxx} {BUNDLE} -pthread $in -o $out\n"]
        rules += [f"build {esc(o)}: cc {esc(s)}\n" for s, o in objects.items()]
        rules += [f"build {esc(target)}: link {' '.join(esc(o) for o in objects.values())}\n"]
        (folder / "build.ninja").write_text("".join(rules))
        subprocess.run([Path(ninja.BIN_DIR) / "ninja", "-C", folder], check=True)


setup(
    packages=["engine", "engine.kernels"],
    package_dir={"engine.kernels": "kernels"},
    package_data={"engine": ["assets/*", "py.typed"]},
    ext_modules=[Extension("engine._native", SOURCES)],
    cmdclass={"build_ext": NinjaBuild},
)
