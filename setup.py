"""Build the native module with ninja. Everything else about the package stands in pyproject.toml."""

import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import ninja
import pybind11
from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

sys.path.insert(0, str(Path(__file__).resolve().parent))
from csrc.tools import clean_build, compiler

# kernels/ is imported as engine.kernels. Tools follow the link engine/kernels; package_dir needs no links.
KERNELS = [f"engine.{package}" for package in find_packages(include=["kernels*"])]
SOURCES = sorted(str(path) for path in Path("csrc").rglob("*.cpp"))
FLAGS = "-std=c++17 -O3 -g0 -fPIC -fvisibility=hidden -ffp-contract=off -pthread -Wall -Wextra"
FLAGS += " -Wno-uninitialized -Wno-maybe-uninitialized -Wno-unknown-warning-option"  # for GCC's AVX-512 intrinsics
# A package index shows the README alone: of links to files the text remains, pictures are left out.
RELATIVE = r"(?:!\[[^]]*\]|\[([^]]*)\])\((?!https?:)[^)]*\)"


def escape(path):
    return str(path).replace("$", "$$").replace(":", "$:").replace(" ", "$ ")


class NinjaBuild(build_ext):
    def build_extension(self, ext):
        cxx = subprocess.list2cmdline(compiler.command()).replace("$", "$$")
        flags, link_flags = (words.replace("$", "$$") for words in compiler.arguments(FLAGS))
        # setuptools would compile an editable install in a temporary folder, and anew each time.
        lasting = f"build/temp.{self.plat_name}-{sys.implementation.cache_tag}"
        folder = Path(lasting if self.editable_mode else self.build_temp).absolute()
        target = Path(self.get_ext_fullpath(ext.name)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        objects = [escape((folder / source).with_suffix(".o")) for source in ext.sources]
        include = f'-I"{sysconfig.get_path("include")}" -I"{pybind11.get_include()}"'.replace("$", "$$")
        lines = [f"rule cc\n command = {cxx} {flags} $include -MD -MF $out.d -c $in -o $out\n depfile = $out.d"]
        lines += [f" description = compiling $name\nrule link\n command = {cxx} $in {link_flags} -o $out"]
        for source, out in zip(ext.sources, objects, strict=True):
            lines += [f"build {out}: cc {escape(Path(source).absolute())}\n name = {source}"]
            lines += [f" include = {include}"] if Path(source).stem == "bindings" else []  # no other file knows Python
        lines += [f"build {escape(target)}: link {' '.join(objects)}\n description = linking {target.name}\n"]
        (folder / "build.ninja").write_text("\n".join(lines))
        if subprocess.run([Path(ninja.BIN_DIR) / "ninja"], cwd=folder).returncode:
            sys.exit("error: engine.kernels._native did not compile; the compiler's messages stand above.")


setup(
    long_description=re.sub(RELATIVE, r"\1", Path("README.md").read_text("utf-8")),
    long_description_content_type="text/markdown",
    packages=[*find_packages(include=["engine*"], exclude=["engine.kernels*"]), *KERNELS],
    package_dir={"engine.kernels": "kernels"},
    ext_modules=[Extension("engine.kernels._native", SOURCES)],
    cmdclass={"build": clean_build.CleanBuild, "build_ext": NinjaBuild},
)
