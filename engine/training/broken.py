"""The recordings of a folder that cannot be read: named together, or passed by."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from engine.audio.folders import Recordings
from engine.errors import InputError

T = TypeVar("T")


class BrokenRecordings:
    """The recordings of a folder that cannot be read.

    Args:
        folder: of the recordings.
        recordings: those that were found.
        skipped: whether they are passed by, or an error.

    Attributes:
        files: the files and the reasons.
    """

    def __init__(self, folder: Path, recordings: Recordings, skipped: bool) -> None:
        self.files = list(recordings.broken)
        self._folder, self._skipped = folder, skipped
        self._count = len(recordings.files) + len(recordings.broken)

    def __str__(self) -> str:
        """Return the number of the files, and their names by reason."""
        names: dict[str, list[str]] = {}
        for file, reason in sorted(self.files):
            names.setdefault(reason, []).append(str(file.relative_to(self._folder)))
        listed = "; ".join(f"{', '.join(files)} ({reason})" for reason, files in names.items())
        return f"{len(self.files)} of {self._count} recordings in {self._folder} cannot be read: {listed}"

    @property
    def notes(self) -> tuple[str, ...]:
        """A line about the files that were passed by; none without."""
        return (str(self),) if self.files else ()

    def results(self, files: Sequence[Path], read: Callable[[Path], T]) -> Iterator[tuple[Path, T]]:
        """Yield (file, result) for every file that can be read.

        Args:
            files: to read.
            read: reads one; InputError and OSError mean that it cannot be read.

        Raises:
            InputError: after the last file, that others cannot be read.
        """
        for file in files:
            try:
                result = read(file)
            except (InputError, OSError) as error:
                reason = str(error) if isinstance(error, InputError) else error.strerror or str(error)
                self.files.append((file, reason.removeprefix(f"path: {str(file)!r}: ").removeprefix("audio: ")))
            else:
                yield file, result
        if self.files and not self._skipped:
            raise InputError(f"data: {self}; remove them, or train without them (--skip-broken)")
