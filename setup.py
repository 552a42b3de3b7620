"""Builds the native module with ninja. Everything else about the package is in pyproject.toml."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import ninja
import pybind11
from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

# kernels/ is imported as engine.kernels: engine/kernels links to it for tools, and this names it where links are not followed.
KERNELS = [f"engine.{package}" for package in find_packages(include=["kernels*"])]
SOURCES = sorted(str(p) for p in Path("csrc").rglob("*.cpp"))
FLAGS = "-std=c++17 -O3 -g0 -fPIC -fvisibility=hidden -ffp-contract=off -pthread -Wall -Wextra"
# GCC's own AVX-512 intrinsics trip these two.
FLAGS += " -Wno-uninitialized -Wno-maybe-uninitialized"
BUNDLE = "-bundle -undefined dynamic_lookup" if sys.platform == "darwin" else "-shared -Wl,-z,noexecstack"


def escape(path):
    return str(path).replace("$", "$$").replace(":", "$:").replace(" ", "$ ")


class NinjaBuild(build_ext):
    def build_extension(self, ext):
        cxx = os.environ.get("CXX", "c++")
        if shutil.which(cxx.split()[0]) is None:
            sys.exit(f"error: no C++17 compiler: '{cxx}' was not found. Install g++ or clang++, or set CXX.")
        folder, target = Path(self.build_temp).absolute(), Path(self.get_ext_fullpath(ext.name)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        objects = {Path(s).absolute(): folder / Path(s).with_suffix(".o") for s in ext.sources}
        include = f"-I'{sysconfig.get_path('include')}' -I'{pybind11.get_include()}'"
        lines = [f"rule cc\n command = {cxx} {FLAGS} {include} -MD -MF $out.d -c $in -o $out\n depfile = $out.d"]
        lines += [f"rule link\n command = {cxx} {BUNDLE} -pthread $in -o $out"]
        lines += [f"build {escape(out)}: cc {escape(source)}" for source, out in objects.items()]
        lines += [f"build {escape(target)}: link {' '.join(map(escape, objects.values()))}\n"]
        (folder / "build.ninja").write_text("\n".join(lines))
        subprocess.run([Path(ninja.BIN_DIR) / "ninja", "-C", folder], check=True)


setup(
    packages=[*find_packages(include=["engine*"], exclude=["engine.kernels*"]), *KERNELS],
    package_dir={"engine.kernels": "kernels"},
    package_data={
        "engine": ["assets/*", "py.typed"],
        "engine.kernels": ["*.pyi"],
        "engine.kernels.hopper": ["*.cu"],
        "engine.training": ["recipes/*.toml"],
    },
    ext_modules=[Extension("engine.kernels._native", SOURCES)],
    cmdclass={"build_ext": NinjaBuild},
)
