"""Items of a job: one mel or recording, its id, its seed, its shard and the name of its result."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from engine.errors import InputError

LOCKS = ".engine-job"  # the folder of locks beside the results
SEEDS = 1  # version of `seed_of`, part of a job's identity


@dataclass(frozen=True)
class Item:
    """One input of a job.

    Attributes:
        id: names the result, "/" between subfolders; the seed of the noise follows from it.
        path: the mel or the recording.
        seed: of the noise, in place of the one that follows from the id.
        out: the name of the result below the folder, in place of the id with the suffix of the format.
        problem: why the input cannot be reached; "" if it may be.
        place: the line of a list or a manifest, for errors.
    """

    id: str
    path: Path
    seed: int | None = None
    out: str | None = None
    problem: str = ""
    place: str = field(default="", compare=False)

    def __str__(self) -> str:
        """Return the input for errors: its path, and the line that names it."""
        return f"{str(self.path)!r:.120}{f' ({self.place})' if self.place else ''}"


def id_of(path: Path | PurePosixPath, suffixes: Collection[str]) -> str:
    """Return the id of a file: its relative path without a known suffix.

    Args:
        path: relative to the folder that was searched.
        suffixes: the known ones, in lower case.
    """
    name = path.with_suffix("") if path.suffix.lower() in suffixes and path.stem else path
    return name.as_posix()


def seed_of(item: Item, seed: int) -> int:
    """Return the seed of an item's noise.

    It depends on nothing but the id and the job's seed: a repeated item has the same bytes, whichever process repeats
    it. Ids that differ in the composition of their characters alone (NFC, NFD) have one seed, because file systems
    convert them.

    Args:
        item: its own seed comes first.
        seed: of the job.

    Returns:
        An integer from 0 to 2**64 - 1.
    """
    if item.seed is not None:
        return item.seed
    return _digest(f"seed {seed} of {_composed(item.id)}")


def shard_of(item: Item, count: int) -> int:
    """Return the shard of an item, 1 to `count`; it depends on the id alone.

    Args:
        item: of the job.
        count: the number of shards.
    """
    return 1 + _digest(f"shard of {_composed(item.id)}") % count


def targets_of(items: Sequence[Item], suffix: str) -> list[str]:
    """Return the name of every item's result, relative to the folder.

    Args:
        items: of the job.
        suffix: of the results, ".wav".

    Raises:
        InputError: a name leaves the folder, or two items have one name; names that differ in case or composition
            count as one, because some file systems do not tell them apart.
    """
    targets: list[str] = []
    seen: dict[str, Item] = {}
    ids: dict[str, Item] = {}
    for item in items:
        if (other := ids.setdefault(item.id, item)) is not item and item.out != other.out:
            raise InputError(f"id: expected different ids, got {item.id!r:.120} for both {other} and {item}")
        target = _target_of(item, suffix)
        key = _composed(target).casefold()
        if key in seen:
            raise InputError(
                f"inputs: expected results of different names, got {target!r:.120} of both "
                f"{seen[key]} and {item}; pass one of the two, a folder or a quoted "
                "pattern, which keep subfolders, or a manifest with ids"
            )
        seen[key] = item
        targets.append(target)
    for key, item in seen.items():
        for parent in PurePosixPath(key).parents:
            if parent.as_posix() in seen:
                raise InputError(
                    f"inputs: expected results of different names, got {parent.as_posix()!r:.120} as the result of "
                    f"{seen[parent.as_posix()]} and as a folder for that of {item}"
                )
    return targets


def _target_of(item: Item, suffix: str) -> str:
    name = item.out if item.out is not None else f"{item.id}{suffix}"
    argument = "id" if item.out is None else "out"
    path = PurePosixPath(name)
    parts = name.replace("\\", "/").split("/")
    leaves = (
        Path("folder", name).parts[:1] != ("folder",) or ".." in parts
    )  # the first is also true of "C:/x" on Windows
    is_hidden = path.parts[:1] and path.parts[0].lower() == LOCKS  # the locks may be deleted when no job runs
    if leaves or is_hidden or not item.id or parts[-1] in ("", ".", suffix) or "\0" in name:
        raise InputError(f"{argument}: expected a name below the folder of the results, got {name!r:.120} for {item}")
    if path.suffix.lower() != suffix:
        raise InputError(
            f"{argument}: expected a name that ends in {suffix}, that of the format, got {name!r:.120} for {item}"
        )
    return path.as_posix()


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def _digest(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).digest(), "little")
