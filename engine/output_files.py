"""Output files: checks before the work, and files that appear under their name only when they are complete."""

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
    """Open a new file that replaces `target` when the block ends without an exception.

    The file is written beside the target and renamed; the renaming replaces a file or a symbolic link of that name.
    On any exception the new file is removed and the target stays as it was.

    Args:
        target: the path of the finished file.

    Raises:
        OSError: the target cannot be written, or is not a regular file.
    """
    target = Path(target)
    # os.replace would turn /dev/null into a regular file for root, so only a regular file may be replaced.
    if target.exists() and not stat.S_ISREG(target.stat().st_mode):
        raise OSError("it is a directory" if target.is_dir() else "it is not a regular file")
    if not target.parent.is_dir():
        raise OSError(f"there is no directory {str(target.parent)!r}")
    unfinished = target.with_name(f".engine-{secrets.token_hex(8)}.tmp")
    try:
        with open(unfinished, "xb") as file:  # mkstemp would ignore the umask: its files have mode 0600
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, target)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def check_folder(path: Path) -> None:
    """Check before the work that results can be written into a folder, or that it can be created.

    Args:
        path: the folder; its parent must exist.

    Raises:
        InputError: the path is not a directory, or no file can be created there.
    """
    refusal = f"-o: cannot write into {str(path)!r}"
    if path.exists() and not path.is_dir():
        raise InputError(f"{refusal}: it is not a directory")
    _check_writable(path if path.is_dir() else path.parent, refusal)


def check_output(path: Path, suffix: str, source: Path | None = None, *, option: str = "-o") -> None:
    """Check before the work that a result can be written and does not replace its source.

    The suffix is required because results replace files: a swapped argument must not destroy a recording.

    Args:
        path: the file to write.
        suffix: the required suffix in lower case, ".wav".
        source: the input file, if there is one.
        option: the option of the command line that named the path, for messages.

    Raises:
        InputError: the name does not end in suffix, or no file can be created there.
    """
    refusal = f"{option}: cannot write {str(path)!r}"
    if path.is_dir():
        raise InputError(f"{refusal}: it is a directory")
    if path.suffix.lower() != suffix:
        raise InputError(f"{option}: expected a name that ends in {suffix}, got {str(path)!r}")
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
        tempfile.TemporaryFile(dir=folder).close()  # os.access alone misses a full disk or a read-only mount
    except OSError as error:
        raise InputError(f"{refusal}: cannot create a file in {str(folder)!r}: {error.strerror}") from None
