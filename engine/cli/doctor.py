"""The command `engine doctor`: what this machine can run, and what it lacks."""

from __future__ import annotations

import argparse
import importlib.util
import platform
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import Any

import engine
from engine.checks.installation import how_to_install
from engine.cli.info import choice_json
from engine.cli.messages import add_messages, print_result
from engine.cli.parsing import Commands
from engine.errors import UnavailableError
from engine.kernels import cpu, registry
from engine.kernels import device as gpu_device
from engine.kernels.processors import default_threads


@dataclass(frozen=True)
class Part:
    """A part that this machine has or lacks.

    Attributes:
        kind: "cpu", "gpu" or "package".
        name: a tier; "cuda", or a kernel that runs layers in groups there; or a module.
        available: whether it can be used.
        text: a description, or what is missing.
    """

    kind: str
    name: str
    available: bool
    text: str


_EXTRAS = (
    ("torch", "gpu", "the GPU backend"),
    ("triton", "gpu", "the GPU backend"),
    ("soundfile", "audio", "FLAC, Ogg and MP3"),
    ("soxr", "audio", "other sample rates"),
    ("huggingface_hub", "hub", "checkpoints on the Hugging Face Hub"),
    ("yaml", "hub", "SpeechBrain's hyperparams.yaml"),
    ("starlette", "serve", "'engine serve'"),
    ("uvicorn", "serve", "'engine serve'"),
    ("websockets", "serve", "'engine serve'"),
    ("tqdm", "train", "training"),
    ("ray", "ray", "jobs of many files on a Ray cluster"),
    ("pesq", "quality", "'engine tune-steps --judge pesq'"),
    ("distillmos", "quality", "'engine tune-steps --judge mos'"),
)
_DISTRIBUTIONS = {"yaml": "PyYAML"}  # whose name is not the module's


def add_command(commands: Commands) -> None:
    """Add `doctor` to the program.

    Args:
        commands: the program's commands.
    """
    parser = commands.add(
        "doctor",
        _run,
        usage="",
        summary="list what this machine can run, and what it lacks",
        description=_DESCRIPTION,
        examples="engine doctor\nengine doctor --json",
    )
    add_messages(parser, json=True)


def _run(arguments: argparse.Namespace) -> None:
    parts, choice, threads = [*_parts()], registry.select(calibrated=True), default_threads()
    result = {
        "engine": engine.__version__,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "parts": [asdict(part) for part in parts],
        "choice": choice_json(choice),
        "threads": threads.count,
        "reasons": [*choice.reasons, f"threads {threads.count}: {threads.reason}"],
    }
    print_result(arguments, _lines(result), result)


def _lines(result: Mapping[str, Any]) -> list[str]:
    """Return the lines for the terminal, one per part; each begins with "ok" or "--"."""
    return [
        f"{result['system']}, Python {result['python']}",
        "",
        *(_line(part["available"], f"{part['kind']} {part['name']}", part["text"]) for part in result["parts"]),
        "",
        "'engine vocode' would choose:",
        *(f"  {reason}" for reason in result["reasons"]),
    ]


def _parts() -> Iterator[Part]:
    for name, supported, requirement, precisions in cpu.tiers():
        text = ", ".join(precisions) if supported else f"needs {requirement}, which this processor does not have"
        yield Part("cpu", name, supported, text)
    try:
        obstacle = gpu_device.obstacle()
        text = obstacle or f"{gpu_device.describe()}: {', '.join(registry.GPU_PRECISIONS)}"
    except (RuntimeError, UnavailableError) as error:  # a driver exists and does not work
        obstacle = text = f"{error!s:.200}"
    yield Part("gpu", "cuda", obstacle is None, text)
    for name, why in ({} if obstacle else registry.group_obstacles()).items():
        yield Part(
            "gpu", name, why is None, why or f"--isa {name}: {registry.IN_GROUPS}; compiled when a network is loaded"
        )
    for name, extra, purpose in _EXTRAS:
        installed = importlib.util.find_spec(name) is not None
        text = f"{_version(name)}, for {purpose}" if installed else f"for {purpose}: {how_to_install(extra)}"
        yield Part("package", name, installed, text)


def _version(name: str) -> str:
    try:
        return metadata.version(_DISTRIBUTIONS.get(name, name))
    except metadata.PackageNotFoundError:
        return "unknown version"


def _line(available: bool, name: str, text: str) -> str:
    return f"{'ok' if available else '--'}  {name:<18}  {' '.join(text.split())}"


_DESCRIPTION = """\
One line per instruction set, GPU, kernel that runs groups of layers on it, and
optional package: what is there, what is missing and how to install it. The last
lines state what 'engine vocode' would choose. Nothing is loaded or run.

With --json the output is an object with the keys engine, system, python, parts,
choice, threads and reasons. A part has the keys kind, name, available and text.
"""
