"""How much memory this process holds, by the system's own account."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

_STATUS = Path("/proc/self/status")


def resident() -> int:
    """Bytes in memory now; without /proc the most there were, 0 where the system does not count."""
    return _status("VmRSS") if _STATUS.is_file() else _high_water()


def most() -> int:
    """The most bytes there were since `forget_most`; since the process began, without /proc."""
    return _status("VmHWM") if _STATUS.is_file() else _high_water()


def forget_most() -> None:
    """Count the most from here on, where the system can."""
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
