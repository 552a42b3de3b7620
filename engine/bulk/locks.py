"""Locks of files, which end with the process that holds them, however it ends."""

from __future__ import annotations

import errno
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

HELD = (errno.EACCES, errno.EAGAIN, errno.EWOULDBLOCK, errno.EDEADLK)
# Some network file systems have no locks.
ABSENT = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOTTY)


@contextmanager
def locked(path: Path, *, shared: bool = False, wait: bool = False) -> Iterator[bool]:
    """Hold the lock of a file during a block.

    Args:
        path: the file, which is created and stays.
        shared: whether others may hold it in shared mode at the same time. Windows has no shared mode; there the block
            runs without the lock.
        wait: whether to wait for the lock.

    Yields:
        Whether the lock is held. False: another process has it. True also where the file system has no locks; a
        warning says so.

    Raises:
        OSError: the file cannot be created.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
    try:
        yield _take(descriptor, path, shared, wait)
    finally:
        os.close(descriptor)


def _take(descriptor: int, path: Path, shared: bool, wait: bool) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt

            if not shared:
                msvcrt.locking(descriptor, msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            mode = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB)
            fcntl.flock(descriptor, mode)
    except OSError as error:
        if error.errno in HELD:
            return False
        if error.errno not in ABSENT:
            raise
        warnings.warn(
            f"{path.parent}: this file system has no locks ({error.strerror}); do not run one job twice at once",
            UserWarning,
            stacklevel=2,
        )
    return True


@contextmanager
def shard_locked(folder: Path, shard: tuple[int, int]) -> Iterator[None]:
    """Hold one shard of a job during a block: no other process may run the same shard, or another division into shards.

    Args:
        folder: of the lock files; it exists.
        shard: its number and the number of shards.

    Raises:
        BlockingIOError: another process holds the shard, or a shard of another division.
    """
    number, count = shard
    own, division = folder / f"shard-{number}-of-{count}", folder / f"shards-of-{count}"
    with locked(own) as is_free, locked(division, shared=True):
        others = [path for path in sorted(folder.glob("shards-of-*")) if path != division]
        if not is_free or not all(map(_is_free, others)):
            raise BlockingIOError(errno.EAGAIN, "another process works on it")
        yield


def is_alone(folder: Path) -> bool:
    """Return whether no process works on any shard, before this one holds its own.

    Args:
        folder: of the lock files.
    """
    return all(map(_is_free, folder.glob("shards-of-*")))


def _is_free(path: Path) -> bool:
    with suppress(OSError), locked(path) as is_free:
        return is_free
    return True
