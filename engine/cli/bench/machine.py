"""The machine and the versions behind a measurement, without the names of the host and its user."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

import engine
from engine.kernels import cpu, registry
from engine.kernels.processors import default_threads

SCHEMA = 2
CLOCK = (
    "the whole vocode call: validation, noise, conditioner, all steps, mel in memory to audio in memory; "
    "loading and packing weights are outside"
)


def environment(load: Iterable[float]) -> dict[str, Any]:
    """Return the first entries of every result file.

    Args:
        load: the `load_average` before the work.
    """
    return {
        "schema": SCHEMA,
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "commit": commit(),
        "machine": {
            "cpu": _cpu_model(),
            "cores": cores(),
            "system": f"{platform.system()} {platform.machine()}",
            "tiers": [name for name, supported, _, _ in cpu.tiers() if supported and name != registry.TILES],
            "load_at_start": [round(value, 2) for value in load],
        },
        "versions": {
            "engine": engine.__version__,
            "python": platform.python_version(),
            "numpy": np.__version__,
        },
        "clock": CLOCK,
    }


def load_average() -> tuple[float, ...]:
    """Return the load over 1, 5 and 15 minutes; an empty tuple where the system does not count it."""
    return os.getloadavg() if hasattr(os, "getloadavg") else ()


def cores() -> int:
    """Return the number of processors that this process may use (`engine.kernels.processors`)."""
    return default_threads().count


def commit() -> str:
    """Return the commit of the checkout that holds this file; "unknown" outside a checkout."""
    file = Path(__file__).resolve()

    def git(*arguments: str) -> str:
        command = ["git", *arguments]
        return subprocess.run(command, cwd=file.parent, capture_output=True, text=True, check=True).stdout

    try:
        git("ls-files", "--error-unmatch", str(file))
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "--short", "HEAD").strip() + (" with changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _cpu_model() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        text = ""
    names = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
