"""What a training says of itself: losses by level of noise, and what it made of held-out recordings."""

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

from engine.training.objective import LEVELS
from engine.training.trainer import Report

FILE = "log.jsonl"


class Window:
    """The losses since the last line of the log, and their means over the last few hundred steps."""

    def __init__(self) -> None:
        self._recent = np.zeros((LEVELS, 2))
        self._reset()

    def add(self, report: Report) -> None:
        """A step's losses."""
        self._levels += report.levels
        self._recent = self._recent * 0.99 + report.levels
        self._gradients += report.gradient
        self._steps += 1

    def recent(self) -> list[float]:
        """The loss of every level, lately."""
        return list(self._recent[:, 0] / np.maximum(self._recent[:, 1], 1e-9))

    def take(self) -> dict[str, Any]:
        """The figures of the window; a new one begins."""
        sums, counts = self._levels.sum(axis=0)
        figures = {
            "loss": sums / counts,
            "levels": [round(float(a / b), 5) if b else None for a, b in self._levels],
            "gradient": self._gradients / self._steps,
            "seconds_per_step": (time.monotonic() - self._begin) / self._steps,
        }
        self._reset()
        return figures

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What is done meanwhile is not the steps': it does not count in seconds_per_step."""
        begin = time.monotonic()
        try:
            yield
        finally:
            self._begin += time.monotonic() - begin

    def _reset(self) -> None:
        self._levels, self._gradients, self._steps, self._begin = np.zeros((LEVELS, 2)), 0.0, 0, time.monotonic()


class Log:
    """log.jsonl in a training's folder, and the same for TensorBoard where that is installed."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        try:
            from torch.utils.tensorboard import SummaryWriter

            self._board: Any = SummaryWriter(str(folder))
        except ImportError:
            self._board = None
            print("no TensorBoard files: tensorboard is not installed", file=sys.stderr)

    def write(self, step: int, figures: Mapping[str, Any]) -> None:
        """A line; none without figures. What is not finite becomes null: JSON knows no such numbers."""
        if not figures:
            return
        figures = {name: _finite(value) for name, value in figures.items()}
        with open(self._path, "a") as file:
            file.write(json.dumps({"step": step, **figures}) + "\n")
        if self._board is None:
            return
        for name, value in figures.items():
            for place, one in enumerate(value) if isinstance(value, list) else ((None, value),):
                if one is not None:
                    self._board.add_scalar(name if place is None else f"{name}/{place}", one, step)
        self._board.flush()


def _finite(value: Any) -> Any:
    """The same without infinities and NaN."""
    if isinstance(value, list):
        return [_finite(one) for one in value]
    return value if value is None or math.isfinite(value) else None
