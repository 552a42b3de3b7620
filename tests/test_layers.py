"""cli -> engine -> kernels -> csrc, never upward: read from the imports themselves."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def files(folder: str, pattern: str) -> dict[str, Path]:
    paths = sorted(path for path in (ROOT / folder).rglob(pattern) if path.is_file())
    return {path.relative_to(ROOT).as_posix(): path for path in paths}


TRAINING, KERNELS, CSRC = files("engine/training", "*.py"), files("kernels", "*.py"), files("csrc", "*")
BENCH = files("engine/bench", "*.py")
ENGINE = {name: path for name, path in files("engine", "*.py").items() if name not in TRAINING | BENCH}
CSRC_CPU = {name: path for name, path in CSRC.items() if name.startswith("csrc/cpu/")}
# What stands above the library and is imported by nothing in it: the command line, what it prints, and calibration.
COMMAND_LINE = {
    "engine/cli.py",
    "engine/cli_generation.py",
    "engine/terminal.py",
    "engine/__main__.py",
    "engine/info.py",
    "engine/doctor.py",
    "engine/calibration.py",
}


@dataclass(frozen=True)
class Import:
    """One imported module, or name of a module.

    Attributes:
        name: dotted: "engine.config.Config" for "from engine.config import Config".
        at_once: when the file is imported, not when a function runs.
        for_types: only under TYPE_CHECKING.
    """

    name: str
    at_once: bool
    for_types: bool

    def of(self, module: str) -> bool:
        return f"{self.name}.".startswith(f"{module}.")


def imports(source: str) -> Iterator[Import]:
    def visit(node: ast.AST, at_once: bool, for_types: bool) -> Iterator[Import]:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, at_once and not for_types, for_types)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a relative import"
            for alias in node.names:
                yield Import(f"{node.module}.{alias.name}", at_once and not for_types, for_types)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            for child in node.body:
                yield from visit(child, at_once, True)
            for child in node.orelse:
                yield from visit(child, at_once, for_types)
        else:
            function = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
            for child in ast.iter_child_nodes(node):
                yield from visit(child, at_once and not function, for_types)

    yield from visit(ast.parse(source), True, False)


@cache
def imports_of(path: Path) -> list[Import]:
    return list(imports(path.read_text()))


def importers(among: dict[str, Path], module: str, at_once: bool = False) -> set[str]:
    """The files that import a module (for more than types), or that do so at once."""
    return {
        name
        for name, path in among.items()
        for one in imports_of(path)
        if one.of(module) and not one.for_types and (one.at_once or not at_once)
    }


def test_imports_are_found_wherever_they_stand() -> None:
    source = """
import a, b.c as d
from e import f
if TYPE_CHECKING:
    from g import h
try:
    import i
except ImportError:
    def later():
        if True:
            from j import k
class C:
    import m
"""
    found = {one.name: (one.at_once, one.for_types) for one in imports(source)}
    now, later, types = (True, False), (False, False), (False, True)
    assert found == {"a": now, "b.c": now, "e.f": now, "g.h": types, "i": now, "j.k": later, "m": now}
    assert Import("a.b", True, False).of("a") and not Import("ab", True, False).of("a")


def test_there_is_something_to_read() -> None:
    assert {"engine/voice.py", "engine/cli.py"} <= set(ENGINE)
    assert {"kernels/cpu.py", "kernels/reference.py"} <= set(KERNELS)
    assert "csrc/bindings.cpp" in CSRC and len(CSRC_CPU) > 20


@pytest.mark.parametrize("name", KERNELS)
def test_kernels_know_of_the_engine_only_what_a_network_is(name: str) -> None:
    below = ("engine.config", "engine.errors", "engine._native", "engine.kernels")
    for one in imports(KERNELS[name].read_text()):
        if one.of("engine") and not any(one.of(module) for module in below):
            assert one.of("engine.schedule") and one.for_types and name == "kernels/reference.py", one.name


def test_only_the_voice_and_the_command_line_reach_for_kernels() -> None:
    assert importers(ENGINE, "engine.kernels") <= {"engine/voice.py"} | COMMAND_LINE


def test_only_the_cpu_backend_calls_the_native_module() -> None:
    assert importers(ENGINE, "engine._native") == {"engine/__init__.py"}  # to say what to do when it is missing
    assert importers(KERNELS, "engine._native") == {"kernels/cpu.py"}


def test_nothing_below_imports_what_is_above() -> None:
    assert importers(ENGINE | KERNELS, "engine.cli") <= {"engine/__main__.py"}
    assert importers(ENGINE | KERNELS, "engine.info") <= COMMAND_LINE
    for above in ("engine.cli_generation", "engine.terminal", "engine.doctor"):
        assert importers(ENGINE | KERNELS, above) <= COMMAND_LINE
    assert importers(ENGINE | KERNELS, "engine.shortcuts") == {"engine/__init__.py"}
    assert importers(ENGINE | KERNELS, "engine.voice") <= {"engine/__init__.py", "engine/shortcuts.py"} | COMMAND_LINE
    assert importers(ENGINE | KERNELS, "engine.sampler") <= {
        "engine/voice.py",
        "engine/cpu_loop.py",
        "engine/generation.py",
        "engine/gpu_loop.py",
        "engine/loops.py",
        "engine/signals.py",
        "engine/stream.py",
    }
    for other in ("tests", "benchmarks", "networks", "tolerances", "targets"):
        assert not importers(ENGINE | KERNELS, other)


def test_training_stands_beside_the_command_line() -> None:
    """It may use all of the library, which knows nothing of it; and PyTorch is only asked for when it runs."""
    assert not importers(ENGINE | KERNELS, "engine.training")
    command = {"engine/training/__init__.py", "engine/training/__main__.py"}
    at_once = importers(TRAINING, "torch", at_once=True)
    assert len(at_once) > 5 and not command & (at_once | importers(TRAINING, "engine.training", at_once=True))


def test_the_bench_is_a_command_that_costs_the_others_nothing() -> None:
    """It uses the library, nothing but the command line knows it, and that only when it runs."""
    assert importers(ENGINE | KERNELS | TRAINING, "engine.bench") == {"engine/cli.py"}
    assert {one.name for one in imports_of(ENGINE["engine/cli.py"]) if one.of("engine.bench")} == {
        "engine.bench.command.add_command"
    }
    at_once = {one.name for one in imports_of(BENCH["engine/bench/command.py"]) if one.of("engine") and one.at_once}
    assert not any(name.startswith(("engine.bench", "engine.kernels")) for name in at_once)
    for other in ("torch", "benchmarks", "tests", "networks"):
        assert not importers(BENCH, other)


def test_torch_and_triton_come_late() -> None:
    """Neither is imported before a GPU, or the reference, is asked for."""
    gpu = {name for name in KERNELS if name.startswith("kernels/triton/")} | {"kernels/gpu.py"}
    assert not importers(ENGINE, "torch", at_once=True)
    assert importers(KERNELS, "torch", at_once=True) == {"kernels/reference.py"}
    assert importers(KERNELS, "torch") == {"kernels/reference.py", "kernels/cuda.py"}
    assert importers(ENGINE | KERNELS, "triton", at_once=True) <= gpu
    assert importers(ENGINE | KERNELS, "engine.kernels.triton", at_once=True) <= gpu
    assert not importers(ENGINE | KERNELS, "engine.kernels.gpu", at_once=True)
    assert not importers(ENGINE | KERNELS, "engine.kernels.reference")


@pytest.mark.parametrize("name", ["scipy", "soundfile", "soxr", "librosa"])
def test_extras_are_imported_where_they_are_used(name: str) -> None:
    assert not importers(ENGINE | KERNELS, name, at_once=True)


def includes(path: Path) -> list[str]:
    return re.findall(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]', path.read_text(), re.MULTILINE)


@pytest.mark.parametrize("name", CSRC_CPU)
def test_kernels_in_cpp_know_neither_python_nor_torch(name: str) -> None:
    for header in includes(CSRC[name]):
        assert not re.match(r"Python\.h|pybind11|torch|ATen|c10|numpy", header), header


def test_only_the_bindings_know_python() -> None:
    assert [name for name in CSRC if any("pybind11" in header for header in includes(CSRC[name]))] == [
        "csrc/bindings.cpp"
    ]


def test_kernels_in_cpp_stay_among_themselves() -> None:
    inside = {path.resolve() for path in CSRC_CPU.values()}
    for path in CSRC_CPU.values():
        for header in re.findall(r'^\s*#\s*include\s*"([^"]+)"', path.read_text(), re.MULTILINE):
            assert (path.parent / header).resolve() in inside, f"{path.name}: {header}"


def test_an_instruction_set_is_a_few_lines() -> None:
    for path in (ROOT / "csrc/cpu/isa").glob("*.cpp"):
        assert len(path.read_text().splitlines()) <= 40, path.name


def test_files_stay_readable() -> None:
    lengths = {
        name: len(path.read_text().splitlines()) for name, path in (ENGINE | BENCH | TRAINING | KERNELS | CSRC).items()
    }
    assert {name: length for name, length in lengths.items() if length > 500} == {}
    assert len((ROOT / "setup.py").read_text().splitlines()) < 60
