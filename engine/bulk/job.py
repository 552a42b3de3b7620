"""The folder of a job: which job its results belong to, which are done, and which inputs failed.

DIR/_job.json       everything that the bytes of the results depend on
DIR/_failed.jsonl   one object per failed input: {"id", "path", "reason"}
DIR/.engine-job/    locks
"""

from __future__ import annotations

import errno
import json
import os
import stat
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.bulk.items import LOCKS, Item
from engine.bulk.locks import is_alone, locked, shard_locked
from engine.checks.output_files import check_folder, naming, replacing
from engine.errors import InputError

JOB, FAILED, GATE = "_job.json", "_failed.jsonl", "gate"
SINCE = "since"  # key of _job.json: results that are not younger belong to an earlier job
SHOWN = 3  # differences in a message
REMEDY = "use another folder, or --overwrite to start the job anew"

Identity = Mapping[str, Any]
Shard = tuple[int, int]


@dataclass(frozen=True)
class Folder:
    """The folder of a job's results.

    Attributes:
        path: the folder.
        since: results with an older or equal time of modification, in nanoseconds, are not this job's; 0 if all are.
    """

    path: Path
    since: int = 0

    def is_done(self, target: str) -> bool:
        """Return whether a result is there: a file that is not empty.

        Args:
            target: its name in the folder.
        """
        try:
            status = os.stat(self.path / target)
        except OSError:
            return False
        return stat.S_ISREG(status.st_mode) and status.st_size > 0 and status.st_mtime_ns > self.since

    def add_failure(self, item: Item, reason: str) -> None:
        """Append a line to the list of failures.

        Args:
            item: the failed item.
            reason: the error.
        """
        line = json.dumps({"id": item.id, "path": str(item.path), "reason": reason}).encode() + b"\n"
        path = self.path / FAILED
        with locked(self.path / LOCKS / "failures", wait=True), naming(path), open(path, "ab+") as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                line = line if file.read(1) == b"\n" else b"\n" + line  # after a line that was cut off
            file.write(line)

    def forget_failures(self, own: Iterable[str], all_ids: Iterable[str]) -> None:
        """Remove items from the list of failures before they are tried again, and the list if it becomes empty.

        Inputs that are gone, and that the command does not name any more, are removed as well.

        Args:
            own: ids of the items that are tried again.
            all_ids: ids of all items of the command, those of other shards included.
        """
        path, again, named = self.path / FAILED, frozenset(own), frozenset(all_ids)

        def is_kept(line: str) -> bool:
            entry = _entry_of(line)
            name, file = entry.get("id"), entry.get("path")
            return name not in again and (name in named or (isinstance(file, str) and os.path.lexists(file)))

        with locked(self.path / LOCKS / "failures", wait=True):
            if not path.exists():
                return
            lines = path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
            kept = [line for line in lines if is_kept(line)]
            if not kept:
                path.unlink()
            elif len(kept) < len(lines):
                with replacing(path) as file:
                    file.write("".join(f"{line}\n" for line in kept).encode("utf-8", "surrogateescape"))


@contextmanager
def working_in(
    path: Path, identity: Identity, targets: Sequence[str], own: Sequence[str], *, shard: Shard, overwrite: bool
) -> Iterator[Folder]:
    """Open the folder of a job for one shard, and hold its lock during a block.

    Args:
        path: the folder; it is created, its parent must exist.
        identity: everything that the bytes of the results depend on, as JSON.
        targets: the names of all results.
        own: those of the shard.
        shard: its number and the number of shards.
        overwrite: whether to start the job anew: earlier results do not count as done.

    Raises:
        InputError: the folder has results of another job or of none, another process works on the shard, or the folder
            cannot be written.
    """
    check_folder(path)
    if not overwrite:
        existing(path, identity, targets)  # a folder that is refused gets no locks
    path.mkdir(exist_ok=True)
    locks = path / LOCKS
    if os.path.lexists(locks) and not locks.is_dir():
        raise InputError(f"-o: cannot write into {str(path)!r:.200}: {str(locks)!r:.200} is not a directory")
    locks.mkdir(exist_ok=True)
    held = shard_locked(locks, shard)
    with locked(locks / GATE, wait=True):  # processes that start at once establish the job one after the other
        alone = is_alone(locks)
        try:
            held.__enter__()
        except BlockingIOError:
            number, count = shard
            part = f"shard {number}/{count} of it" if count > 1 else "it"
            raise InputError(
                f"-o: another process writes into {str(path)!r:.200}, and {part} would be done twice; wait until it "
                "ends, or use another folder"
            ) from None
        try:
            folder = _established(path, identity, targets, own, overwrite, alone)
        except BaseException:
            held.__exit__(None, None, None)
            raise
    try:
        yield folder
    finally:
        held.__exit__(None, None, None)


def existing(path: Path, identity: Identity, targets: Sequence[str]) -> Folder:
    """Return the folder of a job without writing anything.

    Args:
        path: the folder, which may not exist yet.
        identity: see `working_in`.
        targets: the names of all results.

    Raises:
        InputError: the folder has results of another job or of none, or cannot be one.
    """
    check_folder(path, writable=False)
    recorded = _recorded(path)
    difference = _difference(path, recorded, identity, targets)
    if difference and recorded is None and (recorded := _recorded(path)):  # another shard has just begun the job
        difference = _difference(path, recorded, identity, targets)
    if difference:
        raise InputError(difference)
    return Folder(path, int((recorded or {}).get(SINCE, 0)))


def _established(
    path: Path, identity: Identity, targets: Sequence[str], own: Sequence[str], overwrite: bool, alone: bool
) -> Folder:
    recorded = _recorded(path, is_replaced=overwrite)
    difference = _difference(path, recorded, identity, targets)
    if recorded is not None and not difference:
        folder = Folder(path, int(recorded.get(SINCE, 0)))
        for target in own if overwrite else ():
            _remove(path / target)
        return folder
    if difference and not overwrite:
        raise InputError(difference)
    if difference and not alone:
        raise InputError(f"-o: another process writes into {str(path)!r:.200}; wait until it ends before --overwrite")
    folder = Folder(path, _now(path) if difference else 0)
    for target in targets if folder.since else ():
        if folder.is_done(target):  # by a clock that was set back since
            _remove(path / target)
    content = {**identity, SINCE: folder.since} if folder.since else dict(identity)
    with naming(path / JOB), replacing(path / JOB) as file:
        file.write((json.dumps(content, indent=1) + "\n").encode())
    return folder


def _remove(result: Path) -> None:
    """Remove an earlier result. A folder of that name stays, and is the failure of its item alone."""
    if not result.is_dir() or result.is_symlink():
        result.unlink(missing_ok=True)


def _difference(path: Path, recorded: Identity | None, identity: Identity, targets: Sequence[str]) -> str:
    """Return why the results in a folder are not this job's, "" if they are or if there are none."""
    if recorded is None:
        there = next((target for target in targets if os.path.lexists(path / target)), None)
        if there is None:
            return ""
        return f"-o: expected a folder without results, got {str(path / there)!r:.200} of no known job; {REMEDY}"
    names = [
        name for name in recorded.keys() | identity.keys() if name != SINCE and recorded.get(name) != identity.get(name)
    ]
    names.sort(key=lambda name: (_is_digest(recorded.get(name, identity.get(name))), name))  # readable values first
    differences = [f"{name} {_shown(recorded.get(name))} there and {_shown(identity.get(name))} now" for name in names]
    if not differences:
        return ""
    more = f" and {len(differences) - SHOWN} more" if differences[SHOWN:] else ""
    listed = ", ".join(differences[:SHOWN]) + more
    return f"-o: expected results of the same job in {str(path)!r:.200}, got {listed}; {REMEDY}"


def _is_digest(value: Any) -> bool:
    return isinstance(value, str) and len(value) == 64


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return f"{text[:12]}..." if _is_digest(value) else f"{text:.60}"


def _recorded(path: Path, *, is_replaced: bool = False) -> Identity | None:
    """Return the description of the job in a folder, None if there is none.

    Args:
        path: the folder.
        is_replaced: whether a damaged description is taken for that of another job.

    Raises:
        InputError: the description is damaged.
    """
    file = path / JOB
    try:
        if not stat.S_ISREG(os.stat(file).st_mode):  # a pipe would be waited for
            raise ValueError("no regular file")
        content = json.loads(file.read_bytes())
        if not isinstance(content, dict) or not isinstance(content.get(SINCE, 0), int):
            raise ValueError("other JSON")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(f"{file}: cannot read it: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        if is_replaced:
            return {}
        raise InputError(f"{file}: expected the description of a job, got {error!s:.100}; {REMEDY}") from None
    return content


def _now(path: Path) -> int:
    """Return the time of the folder's file system, in nanoseconds: a server's clock may differ from this machine's."""
    with tempfile.TemporaryFile(dir=path) as file:
        file.write(b"\0")
        file.flush()
        return os.fstat(file.fileno()).st_mtime_ns


def _entry_of(line: str) -> dict[str, Any]:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return entry if isinstance(entry, dict) and isinstance(entry.get("id"), str) else {}


FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)


def ends_the_job(error: BaseException) -> bool:
    """Return whether an error concerns all further results: a full disk, or one that fails.

    Args:
        error: of writing a result.
    """
    return isinstance(error, OSError) and error.errno in FULL
