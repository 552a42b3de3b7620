"""The order of the rooms, read from the imports themselves: cli -> engine -> kernels -> csrc, never upward."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.support.paths import ROOT

# The rooms from the ground up: a file imports from its own room and from those before it. `engine` is its `__init__`.
ROOMS = (
    "engine.errors",
    "engine.config",
    "engine.checks",
    "engine.diffusion",
    "engine.kernels",
    "engine.checkpoint",
    "engine.audio",
    "engine.sampling",
    "engine.sampling.streaming",
    "engine.voice",
    "engine.voice.api",
    "engine.bulk",
    "engine",
    "engine.nn",
    "engine.compat",
    "engine.tuning",
    "engine.training",
    "engine.serving",
    "engine.cli",
    "engine.__main__",
    "benchmarks",
)


def files(folder: str, pattern: str) -> dict[str, Path]:
    """Return the files of a folder by their name in the checkout; links are not followed."""
    paths = sorted(path for path in (ROOT / folder).rglob(pattern) if path.is_file() and path.suffix != ".pyc")
    return {path.relative_to(ROOT).as_posix(): path for path in paths if ROOT / "engine/kernels" not in path.parents}


ENGINE, KERNELS, CSRC = files("engine", "*.py"), files("kernels", "*.py"), files("csrc", "*")
TRAINING, BENCH = files("engine/training", "*.py"), files("engine/cli/bench", "*.py")
WITH_TORCH = ("engine/training/", "engine/cli/", "engine/nn.py")  # beside the library, or for users of PyTorch
LIBRARY = {name: path for name, path in ENGINE.items() if not name.startswith(WITH_TORCH)}
BENCHMARKS = files("benchmarks", "*.py")
CSRC_CPU = {name: path for name, path in CSRC.items() if name.startswith("csrc/cpu/")}


def module_of(name: str) -> str:
    """Return the dotted name under which a file is imported: "engine.kernels.cpu" for "kernels/cpu.py"."""
    dotted = name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    return f"engine.{dotted}" if dotted.split(".")[0] == "kernels" else dotted


MODULES = {module_of(name): path for name, path in (ENGINE | KERNELS | BENCHMARKS).items()}


def room_of(module: str) -> str:
    """Return the room that a module is in: the longest that its name begins with."""
    return max(
        (room for room in ROOMS if f"{module}.".startswith(f"{room}.") and room != "engine"), key=len, default="engine"
    )


def target_of(name: str) -> str | None:
    """Return the module that an imported name is, or is defined in; None outside the project."""
    parts = name.split(".")
    prefixes = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((prefix for prefix in prefixes if prefix in MODULES), None)


@dataclass(frozen=True)
class Import:
    """One imported module, or name of a module.

    Attributes:
        name: dotted: "engine.config.Config" for "from engine.config import Config".
        at_once: whether it runs when the file is imported, not when a function runs.
        for_types: whether it runs only under TYPE_CHECKING.
    """

    name: str
    at_once: bool
    for_types: bool

    def is_within(self, module: str) -> bool:
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
    """Return the files that import a module for more than types; with `at_once`, when they are imported."""
    return {
        name
        for name, path in among.items()
        for imported in imports_of(path)
        if imported.is_within(module) and not imported.for_types and (imported.at_once or not at_once)
    }


def test_imports_are_found_anywhere_in_a_file() -> None:
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
    flags = {imported.name: (imported.at_once, imported.for_types) for imported in imports(source)}
    now, later, types = (True, False), (False, False), (False, True)
    assert flags == {"a": now, "b.c": now, "e.f": now, "g.h": types, "i": now, "j.k": later, "m": now}
    assert Import("a.b", True, False).is_within("a") and not Import("ab", True, False).is_within("a")


def test_there_is_something_to_read() -> None:
    assert {"engine/voice/voice.py", "engine/cli/main.py"} <= set(ENGINE)
    assert {"kernels/cpu.py", "kernels/reference.py"} <= set(KERNELS)
    assert "csrc/bindings.cpp" in CSRC and len(CSRC_CPU) > 20
    assert target_of("engine.checkpoint.load.Checkpoint") == "engine.checkpoint.load" and target_of("numpy") is None
    assert room_of("engine.sampling.cpu.loop") == "engine.sampling" and room_of("engine") == "engine"


def test_every_file_has_a_room() -> None:
    assert {room_of(module) for module in MODULES} == set(ROOMS)
    assert {module for module in MODULES if room_of(module) == "engine"} == {"engine"}


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_down(module: str) -> None:
    rank = ROOMS.index(room_of(module))
    for imported in imports_of(MODULES[module]):
        assert not imported.is_within("tests") or room_of(module) == "benchmarks", imported.name
        target = target_of(imported.name)
        assert target is None or ROOMS.index(room_of(target)) <= rank, f"{module} imports {target}, which is above it"


def test_no_file_is_part_of_a_circle() -> None:
    """Not even for types alimported."""
    graph = {
        module: {target for imported in imports_of(path) if (target := target_of(imported.name)) not in (None, module)}
        for module, path in MODULES.items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_the_hall_is_small() -> None:
    entries = {path.name for path in (ROOT / "engine").iterdir()} - {"__pycache__"}
    assert len(entries) <= 20, sorted(entries)


def test_the_import_path_is_the_folder() -> None:
    link = ROOT / "engine" / "kernels"
    if (ROOT / "PKG-INFO").exists() and not link.exists():
        pytest.skip("a source distribution has no links")
    assert link.is_symlink() and link.readlink() == Path("../kernels")


def test_only_the_cpu_backend_calls_the_native_module() -> None:
    assert importers(ENGINE, "engine.kernels._native") == {"engine/__init__.py"}  # says what to do when it is missing
    assert importers(KERNELS, "engine.kernels._native") == {"kernels/cpu.py"}


def test_training_asks_for_torch_when_it_runs() -> None:
    command = {"engine/training/__init__.py", "engine/training/__main__.py"}
    at_once = importers(TRAINING, "torch", at_once=True)
    assert len(at_once) > 5 and not command & (at_once | importers(TRAINING, "engine.training", at_once=True))


def test_the_bench_costs_the_other_commands_nothing() -> None:
    command = BENCH["engine/cli/bench/command.py"]
    at_once = {imported.name for imported in imports_of(command) if imported.is_within("engine") and imported.at_once}
    assert not any(name.startswith(("engine.cli.bench", "engine.kernels")) for name in at_once)
    others = {name: path for name, path in ENGINE.items() if name not in BENCH}
    assert importers(others, "engine.cli.bench") == {"engine/cli/main.py"}
    for other in ("torch", "benchmarks", "tests"):
        assert not importers(BENCH, other)


def test_torch_and_triton_come_late() -> None:
    """Neither is imported before a GPU or the reference is requested."""
    gpu = {name for name in KERNELS if name.startswith("kernels/triton/")} | {"kernels/gpu.py"}
    assert not importers(LIBRARY, "torch", at_once=True)
    assert not importers(ENGINE, "engine.nn")
    assert importers(KERNELS, "torch", at_once=True) == {"kernels/reference.py"}
    assert importers(KERNELS, "torch") == {"kernels/reference.py", "kernels/device.py"}
    assert importers(LIBRARY | KERNELS, "triton", at_once=True) <= gpu
    assert importers(LIBRARY | KERNELS, "engine.kernels.triton", at_once=True) <= gpu
    assert not importers(ENGINE | KERNELS, "engine.kernels.gpu", at_once=True)
    assert not importers(ENGINE | KERNELS, "engine.kernels.reference")


@pytest.mark.parametrize("name", ["scipy", "soundfile", "soxr", "librosa", "huggingface_hub", "yaml"])
def test_extras_are_imported_where_they_are_used(name: str) -> None:
    assert not importers(ENGINE | KERNELS, name, at_once=True)


def test_the_service_costs_nothing_where_it_is_not_used() -> None:
    """Importing the engine or its command line imports no package of the extra `serve`."""
    service = {name for name in ENGINE if name.startswith("engine/serving/")}
    for package in ("starlette", "uvicorn", "websockets", "h11"):
        assert importers(ENGINE | KERNELS, package, at_once=True) <= service - {"engine/serving/__init__.py"}
    others = {name: path for name, path in ENGINE.items() if name not in service}
    assert importers(others, "engine.serving") == {"engine/cli/serve.py"}
    at_once = {
        imported.name
        for name in ("engine/serving/__init__.py", "engine/serving/limits.py", "engine/cli/serve.py")
        for imported in imports_of(ENGINE[name])
        if imported.is_within("engine.serving") and imported.at_once
    }
    assert at_once == {
        *("engine.serving.Limits", "engine.serving.app", "engine.serving.check_installed"),
        "engine.serving.limits.Limits",
    }


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
        name: len(path.read_text().splitlines()) for name, path in (ENGINE | KERNELS | CSRC | BENCHMARKS).items()
    }
    assert {name: length for name, length in lengths.items() if length > 500} == {}
    assert len((ROOT / "setup.py").read_text().splitlines()) < 60
