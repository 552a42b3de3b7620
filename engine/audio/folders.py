"""Folders of recordings or mels as they are: hidden files, links, loops of links, other files, and broken ones."""

from __future__ import annotations

import os
import struct
from collections import Counter, deque
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import BinaryIO

SUFFIXES = frozenset({".aif", ".aiff", ".flac", ".mp3", ".ogg", ".wav"})  # of recordings
ANY_DEPTH = "**"
SHOWN = 6  # suffixes of other files in a line
CHUNKS = 100  # of a WAV file before its audio


@dataclass(frozen=True)
class Recordings:
    """The files of a folder that match a pattern.

    Attributes:
        files: the recordings, sorted, each once.
        broken: what is meant to be a recording or a folder and cannot be reached, and the reason.
        others: the number of files that are no recordings, by suffix.
        hidden: the number of names that begin with ".", which are passed by.
        again: the number of links to recordings or folders that are read already.
    """

    files: tuple[Path, ...]
    broken: tuple[tuple[Path, str], ...]
    others: Counter[str]
    hidden: int
    again: int

    @property
    def passed_by(self) -> str:
        """What was passed by, in one line; "" for nothing."""
        suffixes = [suffix or "no suffix" for suffix, _ in self.others.most_common(SHOWN)]
        suffixes += ["..."] * (len(self.others) > SHOWN)
        counts = {
            f"that are no recordings ({', '.join(suffixes)})": sum(self.others.values()),
            'hidden (names that begin with ".")': self.hidden,
            "links to what is read already": self.again,
        }
        return ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)


def find_recordings(
    folder: Path, pattern: str, suffixes: Collection[str] = SUFFIXES, *, every_link: bool = False
) -> Recordings:
    """Find the recordings, or the files of other kinds, below a folder.

    Links are followed. A folder or file that is reached in several ways is read once, preferably without a link.

    Args:
        folder: to search.
        pattern: of the paths below the folder, as `Path.glob` takes them. Names that begin with "." match only a part
            of the pattern that begins with ".".
        suffixes: of the files to find, in lower case.
        every_link: find a file under its own name and that of every link to it.
    """
    return _Search(folder, PurePosixPath(pattern).parts, suffixes, every_link).run()


class _Search:
    def __init__(self, folder: Path, pattern: tuple[str, ...], suffixes: Collection[str], every_link: bool) -> None:
        self._every_link = every_link
        self._folder, self._pattern, self._suffixes = folder, pattern, suffixes
        self._files: dict[str, Path] = {}  # by their real paths, as everything below
        self._links: list[Path] = []  # to files
        self._broken: dict[str, tuple[Path, str]] = {}
        self._others: dict[str, str] = {}
        self._hidden: set[str] = set()
        self._again = 0

    def run(self) -> Recordings:
        # Links wait until everything else was visited. A folder may be visited at several positions in the pattern.
        folders, links = deque([(self._folder, _skipping({0}, self._pattern))]), deque[tuple[Path, frozenset[int]]]()
        visited: set[tuple[str, frozenset[int]]] = set()
        while folders or links:
            folder, positions = folders.popleft() if folders else links.popleft()
            place = os.path.realpath(folder)
            if (place, positions) in visited:
                self._again += 1
                continue
            visited.add((place, positions))
            for entry, after in self._entries(folder, place, positions):
                path, key = folder / entry.name, os.path.join(place, entry.name)
                try:
                    is_folder = entry.is_dir()
                except OSError as error:  # a link into a closed folder, or a loop of links
                    self._add_unreachable(key, path, error.strerror)
                    continue
                if is_folder:
                    if inside := after - {len(self._pattern)}:
                        (links if entry.is_symlink() else folders).append((path, inside))
                elif entry.is_symlink() and not os.path.exists(path):
                    self._add_unreachable(key, path, "it links to nothing")
                elif len(self._pattern) in after:
                    self._add_file(key, path, entry)
        for path in self._links:
            if self._files.setdefault(os.path.realpath(path), path) is not path:
                self._again += 1
        files, broken = tuple(sorted(self._files.values())), tuple(sorted(self._broken.values()))
        return Recordings(files, broken, Counter(self._others.values()), len(self._hidden), self._again)

    def _entries(
        self, folder: Path, place: str, positions: frozenset[int]
    ) -> Iterator[tuple[os.DirEntry[str], frozenset[int]]]:
        """Yield the entries of a folder, in order, that may match or lead to matches, and the positions after them."""
        try:
            with os.scandir(folder) as entries:
                names = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            self._broken[place] = folder, error.strerror or str(error)
            return
        for entry in names:
            after = _after(positions, entry.name, self._pattern)
            if after:
                yield entry, after
            elif entry.name.startswith("."):
                self._hidden.add(os.path.join(place, entry.name))

    def _add_file(self, key: str, path: Path, entry: os.DirEntry[str]) -> None:
        """Add a file whose path matches the pattern."""
        if path.suffix.lower() not in self._suffixes or not entry.is_file():
            self._others[key] = path.suffix.lower()
        elif entry.is_symlink() and not self._every_link:
            self._links.append(path)
        else:
            self._files.setdefault(key, path)

    def _add_unreachable(self, key: str, path: Path, reason: str | None) -> None:
        """Add a link that leads nowhere; it is broken if its name is that of a recording or of a folder."""
        suffix = path.suffix.lower()
        if suffix in self._suffixes or not suffix:
            self._broken[key] = path, reason or "it cannot be reached"
        else:
            self._others[key] = suffix


def _skipping(positions: set[int], pattern: tuple[str, ...]) -> frozenset[int]:
    """Return the positions in a pattern and those after a "**", which may match nothing."""
    skipping = set(positions)
    for position in range(len(pattern)):
        if position in skipping and pattern[position] == ANY_DEPTH:
            skipping.add(position + 1)
    return frozenset(skipping)


def _after(positions: frozenset[int], name: str, pattern: tuple[str, ...]) -> frozenset[int]:
    """Return the positions after one more part of a path; none if no path that continues so can match."""
    after = set()
    for position in positions - {len(pattern)}:
        part = pattern[position]
        if name.startswith(".") and not part.startswith("."):
            continue
        if part == ANY_DEPTH:
            after.add(position)
        elif fnmatchcase(name, part):
            after.add(position + 1)
    return _skipping(after, pattern)


def looks_complete(file: Path) -> bool:
    """Return whether the header of a recording describes audio that fits into the file.

    Only the header is read. False does not mean that the recording is broken: its reader decides.

    Args:
        file: a recording.

    Raises:
        OSError: the file cannot be read.
    """
    with open(file, "rb") as content:
        start = content.read(12)
        if start[:4] == b"RIFF" and start[8:] == b"WAVE":
            return _has_audio(content, os.fstat(content.fileno()).st_size)
    if start[:4] == b"RIFF":
        return False
    try:
        import soundfile

        return int(soundfile.info(str(file)).frames) > 0
    except Exception:  # soundfile is not installed, or the file is of no format that it reads
        return False


def _has_audio(content: BinaryIO, size: int) -> bool:
    """Return whether a WAV file has the bytes of audio, at least one sample, that its header announces."""
    block = 0
    for _ in range(CHUNKS):
        head = content.read(8)
        if len(head) < 8:
            return False
        name, length = struct.unpack("<4sI", head)
        begin = content.tell()
        if name == b"data":
            return block > 0 and block <= length <= size - begin and length % block == 0
        if name == b"fmt ":
            form = content.read(min(length, 16))
            block = struct.unpack_from("<H", form, 12)[0] if len(form) == 16 else 0
        content.seek(begin + length + length % 2)
    return False
