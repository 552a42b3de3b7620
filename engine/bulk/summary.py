"""Reports of a job: its progress, and its result."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Summary:
    """What a job has done, or at a call of `progress` what it has done so far.

    Attributes:
        folder: of the results.
        total: files of this shard.
        done_before: of these, results that were there already.
        files: results that this call wrote.
        failed: inputs without a result.
        seconds: of the audio of the written results.
        seconds_left: of the audio that is to be done yet, as far as headers state it.
        elapsed: seconds since the work began.
        failures: the reason by id, of the inputs that failed.
        notes: the number of files by conversion, such as "mixed 2 channels into one".
        warnings: the number of files with warnings.
    """

    folder: Path
    total: int = 0
    done_before: int = 0
    files: int = 0
    failed: int = 0
    seconds: float = 0.0
    seconds_left: float = 0.0
    elapsed: float = 0.0
    failures: Mapping[str, str] = field(default_factory=dict)
    notes: Mapping[str, int] = field(default_factory=dict)
    warnings: int = 0

    def __str__(self) -> str:
        """Return for example "9,997 files, 14.2 h of audio in 6.1 h (2.3x real time), 3 failed: DIR/_failed.jsonl"."""
        text = f"{counted(self.files)}, {span(self.seconds)} of audio in {span(self.elapsed)}"
        if self.seconds and self.elapsed:
            text += f" ({self.seconds / self.elapsed:.3g}x real time)"
        if self.done_before:
            text += f", {self.done_before:,} done before"
        if self.failed:
            text += f", {self.failed:,} failed: {self.folder / '_failed.jsonl'}"
        return text


BulkProgress = Callable[[Summary], None]  # called with the work so far


def counted(files: int) -> str:
    """Return a number of files in words: "1 file", "9,997 files".

    Args:
        files: the number.
    """
    return f"{files:,} file{'' if files == 1 else 's'}"


def span(seconds: float) -> str:
    """Return a time in the unit of its size: "12.3 s", "4.5 min", "14.2 h".

    Args:
        seconds: the time.
    """
    for unit, size in (("h", 3600.0), ("min", 60.0)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"
