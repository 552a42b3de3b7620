"""Inputs of a job: files, folders, patterns, lists and manifests become items."""

from __future__ import annotations

import glob
import json
import logging
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from engine.audio.folders import find_recordings
from engine.bulk.items import Item, id_of
from engine.bulk.paths import at_home, check_name, text_of
from engine.checks.arguments import MAX_SEED
from engine.checks.file_kinds import START, mistaken_kind
from engine.errors import InputError

_LOG = logging.getLogger(__name__)
MELS = frozenset({".npy", ".npz", ".safetensors", ".pt"})
MANIFEST = ".jsonl"
LIST = "@"
SOURCES = ("mel", "audio")  # keys of a manifest that name the input
KEYS = ("id", *SOURCES, "seed", "out")
NOTES = ("text", "speaker", "language", "duration", "meta")  # keys of a manifest that are passed by
UTF_16 = (b"\xff\xfe", b"\xfe\xff")  # how such a text begins
MAGIC = re.compile(r"[*?[]")
ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")

# A path, a pattern, a list or a manifest.
Input = str | os.PathLike[str]


def is_many(source: Input) -> bool:
    """Return whether an input may mean several files: a folder, a pattern, a list or a manifest.

    Args:
        source: one input.
    """
    text = os.fspath(source)
    if os.path.isfile(text):
        return text.endswith(MANIFEST)
    return os.path.isdir(text) or text.startswith(LIST) or text.endswith(MANIFEST) or bool(MAGIC.search(text))


def find_items(
    inputs: Iterable[Input], folder: Path, suffixes: frozenset[str], result: str = ".wav"
) -> tuple[list[Item], str]:
    """Find the items of a job.

    A file that exists is taken under its own name, whatever characters it has. The ids of files of a folder or a
    pattern keep the subfolders.

    Args:
        inputs: paths of files and folders, patterns ("mels/**/*.npy"), lists ("@list.txt": a path per line, relative
            to the list) and manifests ("manifest.jsonl": an object per line, {"id", "mel", "seed"?, "out"?}, paths
            relative to the manifest; the keys `NOTES` are passed by, others refused).
        folder: of the results; it is not searched from a folder above.
        suffixes: of the files that a folder is searched for, in lower case.
        result: the suffix of the results. Inside of their folder, files of other suffixes are inputs.

    Returns:
        The items in the order of the inputs, and what was passed by in folders, in one line ("" for nothing).

    Raises:
        InputError: an input is missing, matches nothing or is malformed, or there are no items.
    """
    items: list[Item] = []
    passed_by: list[str] = []
    listed = [text_of(source, "inputs", "paths") for source in inputs]
    for text in listed:
        found, note = _items_of(text, _Results(folder, result), suffixes)
        items += found
        passed_by += [f"{text}: passed by {note}"] if note else []
    if not items:
        known = ", ".join(sorted(suffixes))
        raise InputError(f"inputs: expected at least one file ({known}), got none in {', '.join(listed)!r:.200}")
    return items, "; ".join(passed_by)


class _Results:
    """The folder of the results, whose files a job that resumes must not take for inputs.

    Args:
        folder: of the results.
        suffix: of the results.
    """

    def __init__(self, folder: Path, suffix: str) -> None:
        self.folder, self._suffix = folder, suffix
        self._place = os.path.join(os.path.realpath(folder), "")

    def without(self, files: Iterable[Path], root: Path) -> Iterator[Path]:
        """Yield the files that are no results.

        Args:
            files: that were found.
            root: the folder that was searched.

        Raises:
            InputError: the search began inside of the folder, and found what may be a result.
        """
        begins_inside = os.path.join(os.path.realpath(root), "").startswith(self._place)
        for file in files:
            if not os.path.realpath(file).startswith(self._place):
                yield file
            elif begins_inside and file.suffix.lower() == self._suffix:
                raise InputError(
                    f"inputs: expected files outside of the folder of the results, got {str(file)!r:.120} in "
                    f"{str(self.folder)!r:.120}, where it may be a result; pass another folder as -o, or a pattern "
                    "that matches no results"
                )
            elif begins_inside:
                yield file


def _items_of(text: str, results: _Results, suffixes: frozenset[str]) -> tuple[list[Item], str]:
    if ADDRESS.match(text):
        raise InputError(f"inputs: expected a path, got the address {text!r:.120}; copy or mount its files first")
    text = at_home(text)
    path = Path(text)
    if os.path.isdir(path):
        return _of_folder(path, results, suffixes)
    if text.endswith(MANIFEST):
        return list(_of_manifest(path)), ""
    if os.path.lexists(path):
        return [Item(id_of(Path(path.name), suffixes), path)], ""
    if text.startswith(LIST):
        return list(_of_list(at_home(text[len(LIST) :]), suffixes)), ""
    if MAGIC.search(text):
        return list(_of_pattern(text, results, suffixes)), ""
    raise InputError(f"{text}: cannot read it: {_why_absent(path)}")


def _why_absent(path: Path) -> str:
    try:
        os.stat(path)
    except OSError as error:  # in a folder that must not be searched, for example
        return error.strerror or str(error)
    return "No such file or directory"


def _of_folder(path: Path, results: _Results, suffixes: frozenset[str]) -> tuple[list[Item], str]:
    if os.path.isdir(results.folder) and os.path.samefile(path, results.folder):
        raise InputError(f"inputs: expected another folder than that of the results, got {str(path)!r:.120} as both")
    found = find_recordings(path, "**/*", suffixes, every_link=True)
    if found.again:
        _LOG.warning("%s: %d links to folders that are read already have no results of their own", path, found.again)
    files = results.without(found.files, path)
    items = [Item(id_of(file.relative_to(path), suffixes), file) for file in files]
    broken = [Item(id_of(file.relative_to(path), suffixes), file, problem=reason) for file, reason in found.broken]
    if broken and broken[0].path == path:
        raise InputError(f"{path}: cannot read it: {broken[0].problem}")
    return items + broken, found.passed_by.replace("that are no recordings", "of other kinds")


def _of_pattern(text: str, results: _Results, suffixes: frozenset[str]) -> Iterator[Item]:
    """Yield the files that match, with ids relative to the folder before the first special character."""
    base = Path(*_parts_before_magic(Path(text).parts))
    matches = [Path(name) for name in sorted(glob.glob(text, recursive=True)) if not os.path.isdir(name)]
    if not matches:
        raise InputError(f"inputs: expected a pattern that matches files, got {text!r:.120}")
    for path in results.without(matches, base):
        yield Item(id_of(path.relative_to(base), suffixes), path)


def _parts_before_magic(parts: Sequence[str]) -> Iterator[str]:
    for part in parts:
        if MAGIC.search(part):
            return
        yield part


def _of_list(text: str, suffixes: frozenset[str]) -> Iterator[Item]:
    """Yield the files of a list; a path that leaves the list's folder has its name alone as its id."""
    path = Path(text)
    if not text or os.path.isdir(path):
        got = f"{text!r:.120}, a folder" if text else "nothing after @"
        raise InputError(f"{LIST}{text}: expected a list, such as @list.txt, got {got}")
    for number, line in _lines(path):
        place = f"{path}: line {number}"
        if ADDRESS.match(check_name(line, place)):
            raise InputError(f"{place}: expected a path, got the address {line!r:.120}; copy or mount its files first")
        name = PurePosixPath(line)
        inside = not name.is_absolute() and ".." not in name.parts
        id_path = name if inside else PurePosixPath(name.name)
        yield Item(id_of(id_path, suffixes), path.parent / line, place=place)


def _of_manifest(path: Path) -> Iterator[Item]:
    for number, line in _lines(path):
        place = f"{path}: line {number}"
        try:
            entry = json.loads(line, object_pairs_hook=_object)
        except json.JSONDecodeError as error:
            got = f"{line!r:.60} ({error.msg} at character {error.colno})"
            raise InputError(f"{place}: expected a JSON object, got {got}") from None
        except (ValueError, RecursionError) as error:
            raise InputError(f"{place}: expected a JSON object, got: {error!s:.100}") from None
        yield _entry(path, place, entry)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entry = dict(pairs)
    if len(entry) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r:.40} twice")
    return entry


def _entry(path: Path, place: str, entry: Any) -> Item:
    if not isinstance(entry, dict):
        raise InputError(f"{place}: expected a JSON object, got {entry!r:.80}")
    if unknown := [key for key in entry if key not in KEYS + NOTES]:
        remedy = f"an option of the whole job is no key of a line; other notes belong under {NOTES[-1]!r}"
        raise InputError(
            f"{place}: expected keys among {', '.join(KEYS)} and, for notes, {', '.join(NOTES)}, got "
            f"{unknown[0]!r:.40}; {remedy}"
        )
    sources = [key for key in SOURCES if key in entry]
    if len(sources) != 1 or not isinstance(entry[sources[0]], str) or not entry[sources[0]]:
        raise InputError(f"{place}: expected one path under 'mel' or 'audio', got keys {sorted(entry)!s:.120}")
    source = entry[sources[0]]
    if ADDRESS.match(source):
        raise InputError(f"{place}: expected a path, got the address {source!r:.120}; copy or mount its files first")
    name, seed, out = entry.get("id"), entry.get("seed"), entry.get("out")
    if isinstance(name, bool) or not isinstance(name, (str, int)):
        raise InputError(f"{place}: id: expected a string, got {name!r:.80}")
    if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed <= MAX_SEED):
        raise InputError(f"{place}: seed: expected an integer from 0 to 2**64 - 1, got {seed!r:.80}")
    if out is not None and not isinstance(out, str):
        raise InputError(f"{place}: out: expected a string, got {out!r:.80}")
    for key, text in (("id", str(name)), (sources[0], source), ("out", out or "")):
        check_name(text, f"{place}: {key}")
    return Item(str(name), path.parent / source, seed, out, place=place)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the number and the text of every line that is not empty."""
    try:
        with open(path, "rb") as content:
            start = content.read(START)
        kind = mistaken_kind(start)
        if kind or start.startswith(UTF_16):
            expected = "lines of text, got " + kind if kind else "lines of UTF-8, got UTF-16"
            raise InputError(f"{path}: expected {expected}")
        with open(path, encoding="utf-8-sig", errors="surrogateescape") as file:
            for number, line in enumerate(file, start=1):
                if text := line.strip():
                    yield number, text
    except OSError as error:
        raise InputError(f"{path}: cannot read it: {error.strerror or error}") from None
