"""Files that appear under their name only when they are complete."""

from __future__ import annotations

import os
import secrets
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from engine.errors import InputError


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


def check_folder(path: Path) -> None:
    """Refuse now, before the work, a folder that results could not be written into, or that could not be made.

    Raises:
        InputError: something else has its name, or nothing can be written there.
    """
    refusal = f"-o: cannot write into {str(path)!r}"
    if path.exists() and not path.is_dir():
        raise InputError(f"{refusal}: it is not a directory")
    _check_writable(path if path.is_dir() else path.parent, refusal)


def check_output(path: Path, suffix: str, source: Path | None = None) -> None:
    """Refuse now, before the work, a result that could not be written after it, or that would replace its source.

    The suffix is asked for because results replace files: a swapped argument must not cost a recording.

    Raises:
        InputError: the name does not end in suffix, or nothing can be written there.
    """
    refusal = f"-o: cannot write {str(path)!r}"
    if path.is_dir():
        raise InputError(f"{refusal}: it is a directory")
    if path.suffix.lower() != suffix:
        raise InputError(f"-o: expected a name that ends in {suffix}, got {str(path)!r}")
    if path.exists():
        if not path.is_file():
            raise InputError(f"{refusal}: it is not a regular file")
        if source is not None and source.exists() and path.samefile(source):
            raise InputError(f"{refusal}: it is the input")
        if not os.access(path, os.W_OK):
            raise InputError(f"{refusal}: it is write-protected")
    _check_writable(path.parent, refusal)


def _check_writable(folder: Path, refusal: str) -> None:
    if not folder.is_dir():
        raise InputError(f"{refusal}: there is no directory {str(folder)!r}")
    try:
        tempfile.TemporaryFile(dir=folder).close()  # more certain than asking for permissions
    except OSError as error:
        raise InputError(f"{refusal}: cannot create a file in {str(folder)!r}: {error.strerror}") from None
