"""The results of one stage of `make gpu`: printed and written as soon as they are known."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

from engine.checks.output_files import replacing


class Results:
    """The content of one JSON file, which is on disk after every addition.

    Attributes:
        values: everything so far, with the seconds since the beginning.
    """

    def __init__(self, path: Path, values: dict[str, Any]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.values = dict(values)
        self._path = path
        self._begin = time.monotonic()
        self._write()

    def put(self, key: str, value: Any) -> None:
        """Set an entry."""
        self.values[key] = value
        self._write()

    def add(self, key: str, row: Any) -> None:
        """Append a row to a list."""
        self.values.setdefault(key, []).append(row)
        self._write()

    def elapsed(self) -> float:
        """Return the seconds since the beginning."""
        return time.monotonic() - self._begin

    def _write(self) -> None:
        self.values["elapsed_seconds"] = round(self.elapsed(), 1)
        with replacing(self._path) as file:
            file.write((json.dumps(_finite(self.values), indent=1) + "\n").encode())


def say(line: str) -> None:
    """Print a line at once: a stage that is stopped has shown what it found."""
    print(line, flush=True)


def _finite(value: Any) -> Any:
    """Return a value with strings in place of the numbers that JSON does not have."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, (list, tuple)) else value
