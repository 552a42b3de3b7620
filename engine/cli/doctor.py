"""What this machine can run, and why not: the text of `engine doctor`."""

from __future__ import annotations

import importlib.util
import platform
from collections.abc import Iterator
from importlib import metadata

from engine.errors import UnavailableError
from engine.kernels import cpu, cuda, registry

_EXTRAS = (
    ("torch", "gpu", "the GPU backend"),
    ("triton", "gpu", "the GPU backend"),
    ("soundfile", "audio", "FLAC, Ogg and MP3"),
    ("soxr", "audio", "other sample rates"),
)


def examine() -> str:
    """A line for every backend, instruction set and optional package: "ok" or "--", what it is, what is missing."""
    choice = registry.select(calibrated=True)  # as the bundled voice is
    return "\n".join(
        [
            f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
            "",
            *_cpu(),
            *_gpu(),
            *_packages(),
            "",
            "engine.load() would choose:",
            *(f"  {reason}" for reason in choice.reasons),
        ]
    )


def _cpu() -> Iterator[str]:
    for name, supported, requires, precisions in cpu.tiers():
        what = ", ".join(precisions) if supported else f"needs {requires}, which this processor does not have"
        yield _line(supported, f"cpu {name}", what)


def _gpu() -> Iterator[str]:
    try:
        obstacle = cuda.obstacle()
        what = obstacle or f"{cuda.describe()}: {', '.join(registry.GPU_PRECISIONS)}"
    except (RuntimeError, UnavailableError) as error:  # a driver that is there and does not work
        obstacle = what = f"{error!s:.200}"
    yield _line(obstacle is None, "gpu cuda", what)


def _packages() -> Iterator[str]:
    for name, extra, purpose in _EXTRAS:
        found = importlib.util.find_spec(name) is not None
        missing = f"for {purpose}: pip install -e '.[{extra}]' in the source folder"
        yield _line(found, f"package {name}", f"{_version(name)}, for {purpose}" if found else missing)


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "of an unknown version"


def _line(good: bool, name: str, what: str) -> str:
    return f"{'ok' if good else '--'}  {name:<18}  {' '.join(what.split())}"
