"""The checkpoint of a folder: a trainer's folder, or a repository in the cache of the Hugging Face Hub."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from engine.errors import CheckpointError

SUFFIXES = (".safetensors", ".pt", ".pth", ".ckpt", ".pkl", ".bin")
# The names under which trainers leave the checkpoint to use in their folder, in the order of preference.
_USUAL_NAMES = (
    *("weights.pt", "model.safetensors", "voice.safetensors", "diffwave.ckpt", "last.ckpt"),
    "pytorch_model.bin",
)
_SNAPSHOTS, _REFS = "snapshots", "refs"
MAIN = "main"  # the default branch of a repository
DANGLING = "{!r:.80}, which is a link to a missing file"
_MAX_REF = 1 << 10  # bytes


def find_checkpoint(folder: Path) -> Path:
    """Return the checkpoint in a folder, as trainers leave it.

    A file of a usual name ("weights.pt", "model.safetensors", "diffwave.ckpt") comes first. Otherwise there is one file
    with the suffix of a checkpoint, or a series whose names differ by the number of the step; the largest is the last.
    A folder of the hub's cache ("models--owner--name") stands for the snapshot of its branch "main", or its only one.
    In a snapshot safetensors come first, as for the address of the repository.

    Args:
        folder: an existing folder.

    Raises:
        CheckpointError: the folder has no checkpoint, or several.
    """
    folder = _snapshot_in(folder)
    try:
        names = sorted(name for name in os.listdir(folder) if not name.startswith("."))
    except OSError as error:
        raise CheckpointError(f"{folder}: expected a folder with a checkpoint, got: {error.strerror}") from None
    files = [name for name in names if (folder / name).is_file()]
    candidates = checkpoint_names(files)
    if is_cached(folder):
        candidates = prefer_safetensors(candidates)
    selected = select_name(candidates)
    if selected is None:
        if not candidates and (dangling := checkpoint_names(name for name in names if is_dangling(folder / name))):
            remedy = "; download it again" if is_cached(folder) else ""
            got = DANGLING.format(dangling[0])
            raise CheckpointError(f"{folder}: expected a folder with one checkpoint, got {got}{remedy}")
        remedy = "; pass one of its files" if candidates else ""
        listed = list_names(candidates or names)
        raise CheckpointError(f"{folder}: expected a folder with one checkpoint or weights.pt, got {listed}{remedy}")
    return folder / selected


def select_name(names: Iterable[str]) -> str | None:
    """Return the name of the checkpoint among the files of a folder; None if there is none, or no single one.

    Args:
        names: of files, without their folder.
    """
    files = checkpoint_names(names)
    for name in _USUAL_NAMES:
        if name in files:
            return name
    numbers = [re.split(r"(\d+)", name) for name in files]
    series = {tuple(part for part in parts if not part.isdecimal()) for parts in numbers}
    if not files or (len(files) > 1 and (len(series) > 1 or len(numbers[0]) < 3)):
        return None
    return max(files, key=lambda name: [int(number) for number in re.findall(r"\d+", name)])


def checkpoint_names(names: Iterable[str]) -> list[str]:
    """Return the names that end as those of checkpoints do, sorted.

    Args:
        names: of files.
    """
    return sorted(name for name in names if name.endswith(SUFFIXES))


def prefer_safetensors(names: list[str]) -> list[str]:
    """Return the names of the safetensors files; all names if there is none.

    Args:
        names: of checkpoints.
    """
    return [name for name in names if name.endswith(".safetensors")] or names


def is_dangling(path: Path) -> bool:
    """Return whether a path is a link to a missing file, as in a cache that was copied without its blobs.

    Args:
        path: of a file.
    """
    return path.is_symlink() and not path.exists()


def list_names(names: list[str]) -> str:
    """Return names for a message: the first four, or "an empty one".

    Args:
        names: of the files in a folder.
    """
    return ", ".join(f"{name!r:.60}" for name in names[:4]) or "an empty one"


def find_snapshot(repository: Path, revision: str = MAIN) -> Path | None:
    """Return the folder of one revision of a repository in the hub's cache; None if it is not there.

    The cache holds `refs/REVISION`, a file with the number of a commit, and `snapshots/COMMIT`, a folder of links.

    Args:
        repository: the folder "models--owner--name" of the cache.
        revision: a branch, a tag, or the number of a commit.
    """
    try:
        with open(repository / _REFS / revision, encoding="ascii") as file:
            commit = file.read(_MAX_REF).strip()
    except (OSError, ValueError):
        commit = revision
    snapshot = repository / _SNAPSHOTS / commit
    return snapshot if re.fullmatch(r"[\w.-]+", commit) and snapshot.is_dir() else None


def _snapshot_in(folder: Path) -> Path:
    """Return the snapshot to use if a folder is a repository of the hub's cache, else the folder itself."""
    if not (folder / _SNAPSHOTS).is_dir() or not _is_repository(folder):
        return folder
    if (snapshot := find_snapshot(folder)) is not None:
        return snapshot
    commits = sorted(path.name for path in (folder / _SNAPSHOTS).iterdir() if path.is_dir())
    if len(commits) != 1:
        raise CheckpointError(
            f"{folder}: expected a repository of the hub's cache with the branch 'main' or one snapshot, got "
            f"{list_names(commits)}; pass the folder of a snapshot"
        )
    return folder / _SNAPSHOTS / commits[0]


def is_cached(folder: Path) -> bool:
    """Return whether a folder is a snapshot in the hub's cache, or lies in one.

    Args:
        folder: the folder.
    """
    above = Path(os.path.abspath(folder)).parents
    return any(place.name == _SNAPSHOTS and _is_repository(place.parent) for place in above)


def _is_repository(folder: Path) -> bool:
    """Return whether a folder with snapshots is a repository of the hub's cache."""
    return folder.name.startswith("models--") or (folder / _REFS).is_dir()
