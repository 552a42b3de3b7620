"""Files that appear under their name only when they are complete."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def replacing(target: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A new file to write into, which takes the place of `target` when the block ends without an exception.

    It is written beside the target and renamed, which replaces a file or a symbolic link of that name. On any
    exception nothing is left behind, and what was there stays.

    Raises:
        OSError: the target cannot be written, or is something else than a regular file.
    """
    target = Path(target)
    # os.replace would turn /dev/null into a regular file for root, so only regular files may be in the way.
    if target.exists() and not stat.S_ISREG(target.stat().st_mode):
        raise OSError("it is a directory" if target.is_dir() else "it is not a regular file")
    if not target.parent.is_dir():
        raise OSError(f"there is no directory {str(target.parent)!r}")
    unfinished = target.with_name(f".engine-{secrets.token_hex(8)}.tmp")
    try:
        with open(unfinished, "xb") as file:  # not mkstemp: its files are 0600 whatever the umask
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, target)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
