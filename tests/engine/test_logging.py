"""The library logs, by `logging`, and never prints."""

from __future__ import annotations

import ast
import logging
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

import engine
from engine.kernels.device import CudaDevice
from tests.support.commands import SMALL, save_network
from tests.support.paths import ROOT

# Commands print. The modules of a training that report to its terminal are a part of its command.
# A worker process of `engine.bulk` answers its parent through a pipe.
PRINTING = (
    "engine/cli/",
    "engine/training/__main__.py",
    "engine/training/fit.py",
    "engine/training/log.py",
    "engine/bulk/worker.py",
    "engine/compat/philsyn/__main__.py",
)
STANDARD = ("sys.stdout", "sys.stderr", "sys.__stdout__", "sys.__stderr__")
FILES = sorted(
    path.relative_to(ROOT).as_posix()
    for folder in ("engine", "kernels")
    for path in (ROOT / folder).rglob("*.py")
    if ROOT / "engine" / "kernels" not in path.parents
)


def outputs(source: str) -> list[int]:
    """Return the lines of a source that print, or use stdout or stderr."""
    return [
        node.lineno
        for node in ast.walk(ast.parse(source))
        if (isinstance(node, ast.Name) and node.id == "print")
        or (isinstance(node, ast.Attribute) and ast.unparse(node) in STANDARD)
    ]


def test_outputs_are_found() -> None:
    assert outputs("x = 1\nprint(x)\nf(out=print)\nsys.stderr.write('')\nprinted(x)") == [2, 3, 4]
    assert outputs((ROOT / "engine/cli/messages.py").read_text())


def test_the_library_is_searched() -> None:
    assert {"engine/voice/api.py", "kernels/cpu.py", "engine/audio/wav.py", "kernels/cuda/build.py"} <= set(FILES)


@pytest.mark.parametrize("file", [file for file in FILES if not file.startswith(PRINTING)])
def test_a_module_of_the_library_prints_nothing(file: str) -> None:
    assert outputs((ROOT / file).read_text()) == []


def test_loading_logs_what_was_chosen(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = save_network(tmp_path / "a.safetensors", SMALL)
    with caplog.at_level(logging.DEBUG, "engine"):
        voice = engine.load(path, device="cpu", isa="generic", threads=1)
    records = [record for record in caplog.records if record.name.startswith("engine.")]
    chosen = [record.getMessage() for record in records if record.levelno == logging.INFO]
    assert chosen == voice.explain().splitlines()
    details = [record.getMessage() for record in records if record.levelno == logging.DEBUG]
    assert f"{path}: a checkpoint of the family lmnt, {path.stat().st_size} bytes" in details


def test_without_configuration_nothing_is_shown(tmp_path: Path) -> None:
    path = save_network(tmp_path / "a.safetensors", SMALL)
    program = (
        "import engine, logging, sys; engine.load(sys.argv[1]); logging.getLogger('engine').warning('unseen'); "
        "assert any(isinstance(h, logging.NullHandler) for h in logging.getLogger('engine').handlers); "
        "assert logging.getLogger('engine').level == logging.NOTSET and not logging.root.handlers"
    )
    process = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, check=True)
    assert (process.stdout, process.stderr) == ("", "")


def test_first_compilation_on_a_gpu(caplog: pytest.LogCaptureFixture) -> None:
    device = object.__new__(CudaDevice)  # without a GPU
    device.capability, device._compiled, device._lock = 90, {}, threading.Lock()

    class Kernel:
        """A kernel that compiles to a name."""

        def __init__(self, name: str) -> None:
            self.name = name

        def compile(self, capability: int) -> SimpleNamespace:
            """Return the compiled kernel."""
            return SimpleNamespace(name=f"{self.name} for {capability}")

    first, second = Kernel("input_projection"), Kernel("output_head")
    with caplog.at_level(logging.DEBUG, "engine"):
        assert device._handle(first).name == "input_projection for 90"
        for kernel in (second, first, second):
            device._handle(kernel)
    lines = [(record.levelname, record.getMessage().rpartition(" in ")[0]) for record in caplog.records]
    assert caplog.records[0].getMessage() == "first call on this GPU: compiling kernels for sm_90"
    assert lines[1:] == [("DEBUG", "compiled input_projection"), ("DEBUG", "compiled output_head")]
    assert caplog.records[0].levelname == "INFO"
