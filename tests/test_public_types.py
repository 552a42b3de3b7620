"""The public functions have complete types: a client passes mypy, and no signature says Any."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import engine
import engine.audio
import engine.checkpoint
from engine.sampling.streaming.chunks import Chunks
from engine.sampling.streaming.stream import Stream
from engine.tuning.int8 import calibrate
from tests.support.paths import ROOT

CLIENT = ROOT / "tests" / "typing" / "client.py"


def run_mypy(path: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mypy", "--config-file", "pyproject.toml", "--follow-imports=silent", str(path)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_a_client_passes_mypy() -> None:
    pytest.importorskip("mypy", reason="mypy is in the extra 'check'")
    done = run_mypy(CLIENT)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_wrong_client_does_not(tmp_path: Any) -> None:
    pytest.importorskip("mypy", reason="mypy is in the extra 'check'")
    wrong = tmp_path / "wrong_client.py"
    wrong.write_text(
        "import numpy as np\nimport engine\n"
        "mel = np.zeros((80, 4), np.float32)\n"
        "text: str = engine.vocode(mel)\n"
        "engine.vocode(mel, 6)\n"
        "engine.vocode(mel, step=6)\n"
        "engine.generate(4)\n"
        'engine.load().vocode(["mel.npy"])\n'
        "engine.load(None, 'cpu')\n"
    )
    lines = {int(number) for number in re.findall(r"wrong_client\.py:(\d+): error", run_mypy(wrong).stdout)}
    assert lines == {4, 5, 6, 7, 8, 9}


def public() -> Iterator[tuple[str, Callable[..., Any]]]:
    modules = {"engine": engine, "engine.audio": engine.audio, "engine.checkpoint": engine.checkpoint}
    objects = {f"{name}.{item}": getattr(module, item) for name, module in modules.items() for item in module.__all__}
    objects |= {"Stream": Stream, "Chunks": Chunks, "calibrate": calibrate}
    for name, item in objects.items():
        if inspect.isclass(item):
            for method, function in inspect.getmembers(item, inspect.isfunction):
                if not method.startswith("_") or method in ("__iter__", "__next__"):
                    yield f"{name}.{method}", function
        elif callable(item):
            yield name, item


PUBLIC = list(public())
NAMES = [name for name, _ in PUBLIC]


@pytest.mark.parametrize(("name", "function"), PUBLIC, ids=NAMES)
def test_no_signature_says_any(name: str, function: Callable[..., Any]) -> None:
    signature = inspect.signature(function)
    annotations = {p.name: p.annotation for p in signature.parameters.values() if p.name != "self"}
    for parameter, annotation in {**annotations, "return": signature.return_annotation}.items():
        assert annotation is not inspect.Parameter.empty, f"{name}: {parameter} has no type"
        assert not re.search(r"\bAny\b", str(annotation)), f"{name}: {parameter}: {annotation}"


@pytest.mark.parametrize(("name", "function"), PUBLIC, ids=NAMES)
def test_options_are_written_out(name: str, function: Callable[..., Any]) -> None:
    kinds = {parameter.kind for parameter in inspect.signature(function).parameters.values()}
    assert inspect.Parameter.VAR_KEYWORD not in kinds and inspect.Parameter.VAR_POSITIONAL not in kinds, name


ORDER = [
    "model",
    "steps",
    "seed",
    "schedule",
    "noise",
    "std",
    "energy_min",
    "guidance",
    "seconds",
    "samples",
    "chunk",
    "cancel",
    "progress",
]


@pytest.mark.parametrize(
    "name", ["vocode", "generate", "denoise", "interpolate", "stream", "stream_batch", "open_stream"]
)
def test_parameters_stand_in_one_order(name: str) -> None:
    for owner in (engine, engine.Voice):
        if hasattr(owner, name):
            parameters = list(inspect.signature(getattr(owner, name)).parameters)
            shared = [parameter for parameter in parameters if parameter in ORDER]
            assert shared == sorted(shared, key=ORDER.index), f"{owner.__name__}.{name}"
