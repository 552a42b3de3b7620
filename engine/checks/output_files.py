"""Output files: checks before the work, and files that appear under their name only when they are complete."""

from __future__ import annotations

import errno
import os
import secrets
import signal
import stat
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import BinaryIO

from engine.checks.open_files import reason_of
from engine.errors import InputError

# Reasons why a file cannot be created beside the target, or cannot take its name. The target itself may be writable: a
# file that is mounted by itself, or that stands in a folder of another user.
NOT_REPLACEABLE = frozenset({errno.EACCES, errno.EBUSY, errno.EPERM, errno.EROFS, errno.EXDEV})
# Reasons why a file without a name is not to be had: the file system or the system has none, or /proc is not mounted.
NOT_NAMELESS = frozenset({errno.EINVAL, errno.EISDIR, errno.ENOENT, errno.ENOSYS, errno.EOPNOTSUPP, errno.EXDEV})
BLOCK = 1 << 20  # bytes copied at a time


class Terminated(BaseException):
    """SIGTERM or SIGHUP, as `unwinding_on_signals` raises it.

    Attributes:
        name: of the signal.
        status: the exit status with which a shell reports the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.name = signal.Signals(number).name
        self.status = 128 + number


@contextmanager
def unwinding_on_signals() -> Iterator[None]:
    """Raise `Terminated` at SIGTERM and SIGHUP during the block, so that unfinished files are removed.

    For programs: a library leaves signals to its caller. A signal that the caller handles or ignores (nohup) stays as
    it is. Outside the main thread nothing changes, because Python handles signals there.
    """
    numbers: list[signal.Signals] = []
    if threading.current_thread() is threading.main_thread():
        ending = {signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)}  # Windows has no SIGHUP
        numbers = [number for number in ending if signal.getsignal(number) is signal.SIG_DFL]

    def terminate(number: int, frame: FrameType | None) -> None:
        raise Terminated(number)

    for number in numbers:
        signal.signal(number, terminate)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)


@contextmanager
def naming(file: Path) -> Iterator[None]:
    """Name a file in the errors of writing it: those of a full disk have no name.

    Args:
        file: that is written.
    """
    try:
        yield
    except OSError as error:
        if error.filename is not None or error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(file)) from None


@contextmanager
def replacing(target: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a new file that replaces `target` when the block ends without an exception.

    On any exception the target stays as it was. Where the system has files without a name (Linux; not on every file
    system), no signal, not even SIGKILL, leaves an unfinished file behind. Elsewhere the file is written beside the
    target under another name, and a signal that ends the process leaves it there (`unwinding_on_signals`).

    A file of that name keeps its permissions, and its owner and group where the system permits. A symbolic link of that
    name is replaced, and what it points to stays as it is. A file that cannot be replaced but written, such as one that
    is mounted by itself, gets the new content when it is complete.

    Args:
        target: the path of the finished file.

    Raises:
        OSError: the target cannot be written, or is not a regular file.
    """
    target = Path(target)
    mode = _mode_of(target)
    # os.replace would turn /dev/null into a regular file for root, so only a regular file may be replaced.
    if mode is not None and not stat.S_ISREG(mode):
        raise OSError("it is a directory" if stat.S_ISDIR(mode) else "it is not a regular file")
    if not target.parent.is_dir():
        raise OSError(f"there is no directory {str(target.parent)!r}")
    if _names_descriptor(target):
        raise OSError("it names an open file, not a file in a folder")
    unfinished = _Unfinished(target)
    try:
        with naming(target), unfinished.open() as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            unfinished.finish()
    except BaseException:
        unfinished.discard()
        raise


class _Unfinished:
    """A file that has no name, or a temporary one beside its target, until it is complete.

    Args:
        target: the path of the finished file.
    """

    def __init__(self, target: Path) -> None:
        self._target = target
        self._name = target.with_name(f".engine-{secrets.token_hex(8)}.tmp")
        self._nameless = False
        self._in_place = False
        self._descriptor = -1

    def open(self) -> BinaryIO:
        """Create the file with the permissions of the target, for writing."""
        try:
            self._descriptor = self._create()
        except OSError as error:
            if error.errno not in NOT_REPLACEABLE or not _is_writable_file(self._target):
                raise
            self._in_place = True
            with tempfile.TemporaryFile(buffering=0) as nameless:
                self._descriptor = os.dup(nameless.fileno())
        file = os.fdopen(self._descriptor, "wb")
        if not self._in_place:
            _copy_permissions(self._target, self._descriptor)
        return file

    def finish(self) -> None:
        """Give the complete file its name."""
        if self._in_place:
            return self._copy_to_target()
        if self._nameless and not os.path.lexists(self._target):
            with suppress(OSError):  # the file exists by now, or links are forbidden here
                return self._link(self._target)
        try:
            if self._nameless:
                self._take_temporary_name()
            os.replace(self._name, self._target)
        except OSError as error:
            if error.errno not in NOT_REPLACEABLE or not _is_writable_file(self._target):
                raise
            self._copy_to_target()
            self._name.unlink(missing_ok=True)

    def discard(self) -> None:
        """Remove what is left of an unfinished file."""
        with suppress(OSError):
            self._name.unlink()

    def _create(self) -> int:
        # Readable too, for the copy. The umask applies, unlike to mkstemp's files.
        flags = os.O_RDWR | getattr(os, "O_CLOEXEC", 0)
        if hasattr(os, "O_TMPFILE") and os.path.isdir("/proc/self/fd"):
            try:
                descriptor = os.open(self._target.parent, flags | os.O_TMPFILE, 0o666)
            except OSError as error:
                if error.errno not in NOT_NAMELESS:
                    raise
            else:
                self._nameless = True
                return descriptor
        return os.open(self._name, flags | os.O_CREAT | os.O_EXCL, 0o666)

    def _take_temporary_name(self) -> None:
        try:
            self._link(self._name)
        except OSError:  # links are forbidden here
            with open(self._name, "xb", buffering=0) as file:
                self._copy_to(file.fileno())
                os.fchmod(file.fileno(), stat.S_IMODE(os.fstat(self._descriptor).st_mode))
                os.fsync(file.fileno())

    def _link(self, name: Path) -> None:
        """Give the nameless file a name that does not exist."""
        source = f"/proc/self/fd/{self._descriptor}"
        # Python calls linkat, which can follow the link, only if a descriptor is passed; an absolute path ignores it.
        os.link(source, name, src_dir_fd=self._descriptor, follow_symlinks=True)

    def _copy_to_target(self) -> None:
        """Write the content into the existing target, which keeps everything else."""
        size = os.fstat(self._descriptor).st_size
        with open(self._target, "r+b", buffering=0) as target:
            old_size = os.fstat(target.fileno()).st_size
            if size > old_size and hasattr(os, "posix_fallocate"):
                try:  # the old content stays if there is no room for the new
                    os.posix_fallocate(target.fileno(), old_size, size - old_size)
                except OSError as error:
                    os.ftruncate(target.fileno(), old_size)
                    if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
                        raise
            self._copy_to(target.fileno())
            os.ftruncate(target.fileno(), size)
            os.fsync(target.fileno())

    def _copy_to(self, descriptor: int) -> None:
        position = 0
        while block := os.pread(self._descriptor, BLOCK, position):
            position += os.pwrite(descriptor, block, position)


def check_folder(path: Path, *, writable: bool = True, option: str = "-o") -> None:
    """Check before the work that results can be written into a folder, or that it can be created.

    Args:
        path: the folder; its parent must exist.
        writable: whether a file must be possible there; otherwise only that the path is, or can be, a folder.
        option: the option of the command line that named the path, for messages.

    Raises:
        InputError: the path is not a directory, or no file can be created there.
    """
    refusal = f"{option}: cannot write into {str(path)!r}"
    try:
        is_folder: bool | None = stat.S_ISDIR(os.stat(path).st_mode)
    except OSError as error:  # a loop of links, or a folder that must not be searched
        is_folder = None
        if os.path.islink(path):
            raise InputError(f"{refusal}: {reason_of(error, path)}") from None
    if is_folder is False:
        raise InputError(f"{refusal}: it is not a directory")
    if writable:
        _check_writable(path if is_folder else path.parent, refusal)
    elif not is_folder and not path.parent.is_dir():
        raise InputError(f"{refusal}: there is no directory {str(path.parent)!r}")


def check_output(path: Path, suffix: str | tuple[str, ...], source: Path | None = None, *, option: str = "-o") -> None:
    """Check before the work that a result can be written and does not replace its source.

    The suffix is required because results replace files: a swapped argument must not destroy a recording.

    Args:
        path: the file to write.
        suffix: the required suffix in lower case, ".wav", or the suffixes of which one is required.
        source: the input file, if there is one.
        option: the option of the command line that named the path, for messages.

    Raises:
        InputError: the name does not end in suffix, or no file can be created there.
    """
    refusal = f"{option}: cannot write {str(path)!r}"
    if path.is_dir():
        raise InputError(f"{refusal}: it is a directory")
    suffixes = (suffix,) if isinstance(suffix, str) else suffix
    if path.suffix.lower() not in suffixes:
        listed = " or ".join(filter(None, (", ".join(suffixes[:-1]), suffixes[-1])))
        raise InputError(f"{option}: expected a name that ends in {listed}, got {str(path)!r}")
    if path.exists():
        if not path.is_file():
            raise InputError(f"{refusal}: it is not a regular file")
        if source is not None and source.exists() and path.samefile(source):
            raise InputError(f"{refusal}: it is the input")
        if not os.access(path, os.W_OK):
            raise InputError(f"{refusal}: it is write-protected")
    _check_writable(path.parent, refusal, path)


def _check_writable(folder: Path, refusal: str, target: Path | None = None) -> None:
    if not folder.is_dir():
        raise InputError(f"{refusal}: there is no directory {str(folder)!r}")
    try:
        tempfile.TemporaryFile(dir=folder).close()  # os.access alone misses a full disk or a read-only mount
    except OSError as error:
        if target is not None and error.errno in NOT_REPLACEABLE and _is_writable_file(target):
            folder = Path(tempfile.gettempdir())  # of the file that is copied into the target
            with suppress(OSError):
                return tempfile.TemporaryFile(dir=folder).close()
        raise InputError(f"{refusal}: cannot create a file in {str(folder)!r}: {error.strerror}") from None


def _mode_of(path: Path) -> int | None:
    """Return the type and permissions of what a path leads to, None if it leads to nothing."""
    try:
        return path.stat().st_mode
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            raise  # the name is too long, for example
        return None


def _is_writable_file(path: Path) -> bool:
    """Return whether a path is a regular file, not a link to one, that this process may write."""
    return not path.is_symlink() and path.is_file() and os.access(path, os.W_OK)


def _names_descriptor(path: Path) -> bool:
    """Return whether a path such as /dev/stdout leads to an open file of a process.

    Replacing it would replace a link in /dev. The file behind it may have no name any more.
    """
    for _ in range(40):  # the system's limit of links
        folder = os.path.realpath(path.parent)
        if folder in ("/dev", "/dev/fd") or folder.startswith("/proc/"):
            return True
        if not path.is_symlink():
            return False
        path = Path(folder) / path.readlink()
    return False


def _copy_permissions(target: Path, descriptor: int) -> None:
    """Give a new file the permissions, the owner and the group of the target, if there is one.

    Args:
        target: the file that will be replaced. Of what a link points to, the new file has no more permissions.
        descriptor: of the new file.
    """
    try:
        old = target.stat()
    except OSError:
        return
    mode = stat.S_IMODE(old.st_mode) & 0o777
    with suppress(OSError):  # some file systems have no permissions
        if target.is_symlink():
            return os.fchmod(descriptor, mode & os.fstat(descriptor).st_mode)
        with suppress(OSError):
            os.fchown(descriptor, -1, old.st_gid)
        if os.fstat(descriptor).st_gid != old.st_gid:
            mode &= ~0o070 | (mode & 0o007) << 3  # another group may do no more than everybody
        os.fchmod(descriptor, mode)
        os.fchown(descriptor, old.st_uid, -1)  # last, because only the owner may change the rest
