"""Memory of this process, as the system counts it."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

_STATUS = Path("/proc/self/status")


def resident() -> int:
    """Return the bytes in memory now; without /proc the most so far, or 0 where the system does not count them."""
    return _status("VmRSS") if _STATUS.is_file() else _high_water()


def peak() -> int:
    """Return the most bytes in memory since `reset_peak`; without /proc since the process began."""
    return _status("VmHWM") if _STATUS.is_file() else _high_water()


def reset_peak() -> None:
    """Reset the value of `peak`, where the system can."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _status(field: str) -> int:
    for line in _STATUS.read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    return 0


def _high_water() -> int:
    try:
        import resource
    except ImportError:
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
