"""The log of a training: losses by noise level, and figures of held-out recordings."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from engine.checks.output_files import naming, replacing
from engine.training.objective import LEVELS
from engine.training.trainer import Report

FILE = "log.jsonl"
DECAY = 0.99  # per step, of the recent losses


class Window:
    """The losses since the last line of the log, and their means over the last few hundred steps."""

    def __init__(self) -> None:
        self._recent = np.zeros((LEVELS, 2))
        self._reset()

    def add(self, report: Report) -> None:
        """Add the losses of one step."""
        self._levels += report.levels
        self._loss += report.loss
        for name, value in report.parts.items():
            self._parts.setdefault(name, []).append(value)
        self._recent = self._recent * DECAY + report.levels
        self._gradients += report.gradient
        self._steps += 1

    def recent(self) -> list[float]:
        """Return the recent loss of every level."""
        return list(self._recent[:, 0] / np.maximum(self._recent[:, 1], 1e-9))

    def take(self) -> dict[str, Any]:
        """Return the figures of the window and begin a new one."""
        figures = {
            "loss": self._loss / self._steps,
            "levels": [round(float(total / count), 5) if count else None for total, count in self._levels],
            "gradient": self._gradients / self._steps,
            "seconds_per_step": (time.monotonic() - self._begin) / self._steps,
            **{name: float(np.mean(values)) for name, values in self._parts.items()},
        }
        self._reset()
        return figures

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Exclude the time of the block from seconds_per_step."""
        begin = time.monotonic()
        try:
            yield
        finally:
            self._begin += time.monotonic() - begin

    def _reset(self) -> None:
        self._levels, self._gradients, self._steps, self._begin = np.zeros((LEVELS, 2)), 0.0, 0, time.monotonic()
        self._loss, self._parts = 0.0, dict[str, list[float]]()


class Log:
    """The file log.jsonl in the folder of a training, and the same for TensorBoard where that is installed.

    A training that was killed resumes at its last state, and computes the steps after it again. Their old lines are
    removed, and so is a last line that was cut off.

    Args:
        folder: of the training.
        resumed: the number of the finished steps of a training that resumes; 0 for a new one.
    """

    def __init__(self, folder: Path, resumed: int = 0) -> None:
        self._path = folder / FILE
        if self._path.exists():
            _remove_lines(self._path, resumed)
        try:
            from torch.utils.tensorboard import SummaryWriter

            self._board: Any = SummaryWriter(str(folder), purge_step=resumed + 1 if resumed else None)
        except ImportError:
            self._board = None
            print("no TensorBoard files: tensorboard is not installed", file=sys.stderr)

    def write(self, step: int, figures: Mapping[str, Any]) -> None:
        """Write one line; none without figures. Infinities and NaN become null, because JSON has no such numbers."""
        if not figures:
            return
        figures = {name: _finite(value) for name, value in figures.items()}
        with naming(self._path), open(self._path, "a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **figures}) + "\n")
        if self._board is None:
            return
        for name, value in figures.items():
            for index, number in enumerate(value) if isinstance(value, list) else ((None, value),):
                if number is not None:
                    self._board.add_scalar(name if index is None else f"{name}/{index}", number, step)
        self._board.flush()


def _remove_lines(path: Path, resumed: int) -> None:
    """Remove the lines of steps after the one at which a training resumes, and the beginning of a line."""
    content = path.read_bytes()
    lines = content.splitlines(keepends=True)
    kept = b"".join(line for line in lines if line.endswith(b"\n") and not (resumed and _step(line) > resumed))
    if kept != content:
        with replacing(path) as file:
            file.write(kept)


def _step(line: bytes) -> int:
    """Return the step of a line, or 0 for a line that is none of the log's."""
    try:
        return int(json.loads(line)["step"])
    except (KeyError, TypeError, ValueError):
        return 0


def _finite(value: Any) -> Any:
    """Replace infinities and NaN by None, in a list too."""
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return value if value is None or math.isfinite(value) else None
