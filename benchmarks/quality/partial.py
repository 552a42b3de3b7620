"""Judgments of an unfinished measurement, from which the same command continues."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import astuple
from pathlib import Path
from typing import Any

from benchmarks.quality.scores import Judged, Method, Scores


class Partial:
    """A file beside the results, RESULTS.partial, with one line per clip.

    Args:
        results: file of the results; None keeps nothing.
        header: everything that the judgments depend on. Lines of another header are not used.
    """

    def __init__(self, results: Path | None, header: Mapping[str, Any]) -> None:
        self._path = results.with_name(f"{results.name}.partial") if results else None
        self._header = json.loads(json.dumps(dict(header)))
        self._clips: dict[str, dict[Method, Judged]] = {}
        if self._path and self._path.is_file():
            for line in self._path.read_text().splitlines():
                self._read(line)

    def __getitem__(self, name: str) -> dict[Method, Judged] | None:
        """Return the judgments of a clip, None if it is still to be judged."""
        return self._clips.get(name)

    def add(self, name: str, judged: Mapping[Method, Judged]) -> None:
        """Add the judgments of a clip; values that are not finite become null."""
        if self._path:
            rows = [[*method, each.snr_db, *astuple(each.scores)] for method, each in judged.items()]
            rows = [[None if isinstance(x, float) and not math.isfinite(x) else x for x in row] for row in rows]
            with open(self._path, "a") as file:
                file.write(json.dumps({"header": self._header, "clip": name, "rows": rows}) + "\n")

    def remove(self) -> None:
        """Delete the file: the results are written."""
        if self._path:
            self._path.unlink(missing_ok=True)

    def _read(self, text: str) -> None:
        try:
            line = json.loads(text)
        except ValueError:  # cut short when the measurement was killed
            return
        if line["header"] != self._header:
            return
        judged = {}
        for mels, name, *values in line["rows"]:
            snr_db, *scores = (math.nan if value is None else float(value) for value in values)
            judged[mels, name] = Judged(Scores(*scores), snr_db)
        self._clips[line["clip"]] = judged
