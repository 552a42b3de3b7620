"""The command `engine doctor`: what this machine can run, and what it lacks."""

from __future__ import annotations

import importlib.util
import platform
from collections.abc import Iterator
from importlib import metadata

from engine.cli.parsing import Commands
from engine.errors import UnavailableError
from engine.kernels import cpu, registry
from engine.kernels import device as gpu_device

_EXTRAS = (
    ("torch", "gpu", "the GPU backend"),
    ("triton", "gpu", "the GPU backend"),
    ("soundfile", "audio", "FLAC, Ogg and MP3"),
    ("soxr", "audio", "other sample rates"),
)


def add_command(commands: Commands) -> None:
    """Add `doctor` to the program.

    Args:
        commands: the program's commands.
    """
    commands.add(
        "doctor",
        lambda arguments: print(examine()),
        usage="",
        summary="list what this machine can run, and what it lacks",
        description=_DESCRIPTION,
        examples="engine doctor",
    )


def examine() -> str:
    """Return a line for every backend, instruction set and optional package.

    A line begins with "ok" or "--" and ends with a description or what is missing. The last lines name the choice of
    `engine.load` for a calibrated network, such as the bundled voice.
    """
    choice = registry.select(calibrated=True)
    return "\n".join(
        [
            f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
            "",
            *_cpu(),
            *_gpu(),
            *_packages(),
            "",
            "'engine vocode' would choose:",
            *(f"  {reason}" for reason in choice.reasons),
        ]
    )


def _cpu() -> Iterator[str]:
    for name, supported, requirement, precisions in cpu.tiers():
        text = ", ".join(precisions) if supported else f"needs {requirement}, which this processor does not have"
        yield _line(supported, f"cpu {name}", text)


def _gpu() -> Iterator[str]:
    try:
        obstacle = gpu_device.obstacle()
        text = obstacle or f"{gpu_device.describe()}: {', '.join(registry.GPU_PRECISIONS)}"
    except (RuntimeError, UnavailableError) as error:  # a driver exists and does not work
        obstacle = text = f"{error!s:.200}"
    yield _line(obstacle is None, "gpu cuda", text)


def _packages() -> Iterator[str]:
    for name, extra, purpose in _EXTRAS:
        installed = importlib.util.find_spec(name) is not None
        missing = f"for {purpose}: pip install -e '.[{extra}]' in the source folder"
        yield _line(installed, f"package {name}", f"{_version(name)}, for {purpose}" if installed else missing)


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "unknown version"


def _line(available: bool, name: str, text: str) -> str:
    return f"{'ok' if available else '--'}  {name:<18}  {' '.join(text.split())}"


_DESCRIPTION = """\
One line per instruction set, GPU and optional package: what is there, what is
missing and how to install it. The last lines state what 'engine vocode' would
choose. Nothing is loaded or run.
"""
