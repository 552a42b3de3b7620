"""Output files: checks before the work, replacement, permissions, and what signals leave behind."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from engine.checks import output_files
from engine.checks.output_files import Terminated, check_folder, check_output, replacing, unwinding_on_signals
from engine.errors import InputError

ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
# Without O_TMPFILE, files have a temporary name while they are written, as on macOS and on some file systems.
BOTH_KINDS = pytest.mark.parametrize("nameless", [True, False], ids=["nameless", "named"], indirect=True)


@pytest.fixture
def nameless(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    if request.param and not hasattr(os, "O_TMPFILE"):
        pytest.skip("this system has no files without a name")
    if not request.param:
        monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    return bool(request.param)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def write(path: Path, content: bytes = b"new") -> None:
    with replacing(path) as file:
        file.write(content)


def test_writable_outputs_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "old.wav").write_bytes(b"old")
    (tmp_path / "dangling.wav").symlink_to(tmp_path / "nowhere")
    for name in ("new.wav", "NEW.WAV", "old.wav", "dangling.wav"):
        check_output(tmp_path / name, ".wav", tmp_path / "absent")
    monkeypatch.chdir(tmp_path)
    check_output(Path("new.wav"), ".wav", Path("old.wav"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dangling.wav", "old.wav"]


def test_unwritable_outputs_are_refused(tmp_path: Path) -> None:
    source = tmp_path / "in.wav"
    source.touch()
    (tmp_path / "link.wav").symlink_to(source)
    (tmp_path / "folder.wav").mkdir()
    os.mkfifo(tmp_path / "pipe.wav")
    for path, message in {
        source: "it is the input",
        tmp_path / "link.wav": "it is the input",
        tmp_path: "it is a directory",
        tmp_path / "folder.wav": "it is a directory",
        tmp_path / "pipe.wav": "it is not a regular file",
        tmp_path / "absent" / "a.wav": "there is no directory '.*absent'",
        source / "a.wav": "there is no directory '.*in.wav'",
    }.items():
        with pytest.raises(InputError, match=f"^-o: cannot write '{path}': {message}$"):
            check_output(path, ".wav", source)
    for name in ("a.mp3", "a", "a.wav.npy", ".wav"):
        with pytest.raises(InputError, match=rf"^-o: expected a name that ends in \.wav, got '.*{name}'$"):
            check_output(tmp_path / name, ".wav", source)


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="POSIX permissions")
def test_outputs_without_permission_are_refused(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir()
    (closed / "old.wav").touch(0o444)
    closed.chmod(0o555)
    code = (
        "import os\nfrom pathlib import Path\nfrom engine.checks.output_files import check_output\n"
        "if os.geteuid() == 0: os.setuid(65534)\n"
        "for name in ('a.wav', 'old.wav'):\n"
        "    try: check_output(Path(name), '.wav', Path('absent'))\n"
        "    except ValueError as error: print(error)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    result = subprocess.run([sys.executable, "-c", code], cwd=closed, env=environment, capture_output=True, text=True)
    assert result.stdout.splitlines() == [
        "-o: cannot write 'a.wav': cannot create a file in '.': Permission denied",
        "-o: cannot write 'old.wav': it is write-protected",
    ], result.stderr


def test_output_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("there").mkdir()
    Path("file").write_bytes(b"x")
    for name in ("there", "new", "there/new"):
        check_folder(Path(name))
    assert sorted(os.listdir()) == ["file", "there"] and not os.listdir("there")
    for name, message in (
        ("file", "-o: cannot write into 'file': it is not a directory"),
        ("no/new", "-o: cannot write into 'no/new': there is no directory 'no'"),
        ("file/new", "-o: cannot write into 'file/new': there is no directory 'file'"),
    ):
        with pytest.raises(InputError, match=message):
            check_folder(Path(name))

    def full(dir: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(output_files.tempfile, "TemporaryFile", full)
    with pytest.raises(InputError, match=r"-o: cannot write into 'new': cannot create a file in '\.': No space left"):
        check_folder(Path("new"))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@BOTH_KINDS
def test_a_file_appears_when_it_is_complete(tmp_path: Path, nameless: bool) -> None:
    for content in (b"first", b"second, longer", b""):
        with replacing(tmp_path / "a") as file:
            file.write(content)
            file.flush()
            assert len([name for name in names(tmp_path) if name.startswith(".engine")]) == (not nameless)
        assert names(tmp_path) == ["a"] and (tmp_path / "a").read_bytes() == content
    with pytest.raises(KeyError), replacing(tmp_path / "a") as file:
        file.write(b"third")
        raise KeyError
    assert names(tmp_path) == ["a"] and (tmp_path / "a").read_bytes() == b""


@BOTH_KINDS
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644, 0o666, 0o755, 0o444, 0o400])
def test_a_replaced_file_keeps_its_mode(tmp_path: Path, nameless: bool, mode: int) -> None:
    path = tmp_path / "a"
    path.touch()
    path.chmod(mode)
    with replacing(path) as file:
        # Nobody else may read the new content meanwhile.
        assert stat.S_IMODE(os.fstat(file.fileno()).st_mode) == mode
        file.write(b"new")
    assert mode_of(path) == mode and path.read_bytes() == b"new"


@BOTH_KINDS
@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_a_new_file_has_the_mode_of_the_umask(tmp_path: Path, nameless: bool, mask: int) -> None:
    before = os.umask(mask)
    try:
        write(tmp_path / "a")
    finally:
        os.umask(before)
    assert mode_of(tmp_path / "a") == 0o666 & ~mask


@BOTH_KINDS
def test_a_link_is_replaced_by_a_file_with_no_more_permissions(tmp_path: Path, nameless: bool) -> None:
    secret, link = tmp_path / "secret", tmp_path / "link"
    secret.write_bytes(b"old")
    for mode, expected in ((0o600, 0o600), (0o666, 0o644), (0o777, 0o644)):
        secret.chmod(mode)
        link.unlink(missing_ok=True)
        link.symlink_to(secret)
        before = os.umask(0o022)
        try:
            write(link)
        finally:
            os.umask(before)
        assert not link.is_symlink() and (mode_of(link), mode_of(secret)) == (expected, mode)
        assert secret.read_bytes() == b"old"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
@BOTH_KINDS
def test_a_replaced_file_keeps_its_owner(tmp_path: Path, nameless: bool) -> None:
    path = tmp_path / "a"
    path.touch()
    os.chown(path, 1234, 2345)
    path.chmod(0o640)
    write(path)
    assert (path.stat().st_uid, path.stat().st_gid, mode_of(path)) == (1234, 2345, 0o640)


def test_another_group_gets_no_permissions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The group of the old file cannot be kept: what it might do, another must not."""
    path, stat_of = tmp_path / "a", Path.stat
    for mode, expected in ((0o660, 0o600), (0o640, 0o600), (0o664, 0o644), (0o666, 0o666)):
        path.touch()
        path.chmod(mode)
        old = path.stat()
        other = os.stat_result((*old[:5], old.st_gid + 1, *old[6:]))
        monkeypatch.setattr(Path, "stat", lambda self, other=other, **_: other if self == path else stat_of(self))
        monkeypatch.setattr(os, "fchown", refuse(errno.EPERM))
        write(path)
        monkeypatch.undo()
        assert mode_of(path) == expected


def refuse(number: int) -> Callable[..., Any]:
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


@BOTH_KINDS
@pytest.mark.parametrize("number", [errno.EBUSY, errno.EXDEV, errno.EPERM, errno.EACCES])
@pytest.mark.parametrize("content", [b"new", b"longer than the old content", b""])
def test_a_file_that_cannot_be_replaced_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nameless: bool, number: int, content: bytes
) -> None:
    """A mount point of its own, or a file of another user in a folder like /tmp."""
    path = tmp_path / "a"
    path.write_bytes(b"old content")
    path.chmod(0o640)
    inode = path.stat().st_ino
    monkeypatch.setattr(os, "replace", refuse(number))
    write(path, content)
    assert path.read_bytes() == content and (path.stat().st_ino, mode_of(path)) == (inode, 0o640)
    assert names(tmp_path) == ["a"]
    with pytest.raises(KeyError), replacing(path) as file:
        file.write(b"half")
        raise KeyError
    assert path.read_bytes() == content and names(tmp_path) == ["a"]


@BOTH_KINDS
def test_other_errors_leave_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nameless: bool) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, "replace", refuse(errno.ENOSPC))
    with pytest.raises(OSError, match="No space"):
        write(path)
    monkeypatch.setattr(os, "replace", refuse(errno.EBUSY))
    monkeypatch.setattr(os, "posix_fallocate", refuse(errno.ENOSPC))
    with pytest.raises(OSError, match="No space"):  # there is no room for more, which is seen before the first byte
        write(path, b"longer than old")
    assert path.read_bytes() == b"old" and names(tmp_path) == ["a"]


@BOTH_KINDS
def test_a_full_disk_names_the_file(tmp_path: Path, nameless: bool) -> None:
    """The system's error of a write has no name, and a program with several files must say which one."""
    with pytest.raises(OSError, match="No space left on device") as caught, replacing(tmp_path / "a"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert caught.value.errno == errno.ENOSPC and caught.value.filename == str(tmp_path / "a")
    assert names(tmp_path) == []


@pytest.mark.parametrize("exists", [True, False])
@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOENT, errno.EXDEV, errno.EOPNOTSUPP])
def test_systems_that_forbid_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exists: bool, number: int) -> None:
    if exists:
        (tmp_path / "a").touch(0o600)
    monkeypatch.setattr(os, "link", refuse(number))
    write(tmp_path / "a", b"new" * 1000000)
    assert (tmp_path / "a").read_bytes() == b"new" * 1000000 and names(tmp_path) == ["a"]
    assert not exists or mode_of(tmp_path / "a") == 0o600


def test_a_file_that_appears_meanwhile_is_replaced(tmp_path: Path) -> None:
    with replacing(tmp_path / "a") as file:
        file.write(b"new")
        (tmp_path / "a").write_bytes(b"of another process")
    assert (tmp_path / "a").read_bytes() == b"new" and names(tmp_path) == ["a"]


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.EPERM])
def test_a_writable_file_in_a_closed_folder_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(b"old")
    create, temporary = os.open, output_files.tempfile.TemporaryFile

    def closed(name: Any, flags: int, *arguments: Any, **options: Any) -> int:
        if str(name).startswith(str(tmp_path)) and flags & (os.O_CREAT | os.O_TMPFILE & ~os.O_DIRECTORY):
            raise OSError(number, os.strerror(number))
        return create(name, flags, *arguments, **options)

    def closed_temporary(*arguments: Any, dir: Any = None, **options: Any) -> Any:
        if dir == tmp_path:
            raise OSError(number, os.strerror(number))
        return temporary(*arguments, dir=dir, **options)

    monkeypatch.setattr(os, "open", closed)
    monkeypatch.setattr(output_files.tempfile, "TemporaryFile", closed_temporary)
    check_output(path, ".wav")
    with pytest.raises(InputError, match="cannot create a file in"):
        check_output(tmp_path / "new.wav", ".wav")
    write(path)
    assert path.read_bytes() == b"new"
    with pytest.raises(OSError, match=os.strerror(number)):
        write(tmp_path / "new.wav")


MOUNTED = """
import os, sys
from pathlib import Path
from engine.checks.output_files import check_output, replacing
path = Path(sys.argv[1])
check_output(path, ".wav")
with replacing(path) as file:
    file.write(b"new content")
print(path.read_bytes().decode(), sorted(os.listdir(path.parent)))
"""


@pytest.mark.parametrize("options", ["", "mount -o remount,bind,ro {folder} &&"], ids=["", "in a read-only folder"])
def test_a_file_that_is_mounted_by_itself_is_written(tmp_path: Path, options: str) -> None:
    (tmp_path / "host").write_bytes(b"old")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "out.wav").touch()
    mounts = f"mount --bind {folder} {folder} && {options.format(folder=folder)} mount --bind {tmp_path}/host"
    script = f'{mounts} {folder}/out.wav && exec "$0" -c "$1" {folder}/out.wav'
    command = ["unshare", "-m", "sh", "-c", script, sys.executable, MOUNTED]
    try:
        allowed = subprocess.run(["unshare", "-m", "mount", "--bind", folder, folder], capture_output=True)
    except FileNotFoundError:
        pytest.skip("unshare is not installed")
    if allowed.returncode:
        pytest.skip("mounts are not permitted here")
    result = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT)
    assert result.stdout == "new content ['out.wav']\n", result.stderr
    assert (tmp_path / "host").read_bytes() == b"new content"


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "link"])
def test_the_name_of_an_open_file_is_refused(tmp_path: Path, name: str) -> None:
    """Root would replace /dev/stdout itself, so this runs as nobody."""
    tmp_path.chmod(0o755)
    (tmp_path / "link").symlink_to("/dev/stdout")
    code = (
        "import os, sys\nfrom engine.checks.output_files import replacing\n"
        "if os.geteuid() == 0: os.setuid(65534)\n"
        "try:\n    with replacing(sys.argv[1]) as file: file.write(b'new')\n"
        "except OSError as error: print(error, file=sys.stderr)"
    )
    with open(tmp_path / "redirected", "wb") as out:
        command = [sys.executable, "-c", code, name]
        result = subprocess.run(command, stdout=out, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT, cwd=tmp_path)
    assert result.stderr == "it names an open file, not a file in a folder\n"
    assert names(tmp_path) == ["link", "redirected"] and Path("/dev/stdout").is_symlink()


# Signals

WRITER = """
import sys, time
from engine.checks.output_files import Terminated, replacing, unwinding_on_signals
if {named}:
    import os
    del os.O_TMPFILE
def write():
    with replacing("out") as file:
        file.write(b"half")
        file.flush()
        print("ready", flush=True)
        time.sleep(60)
if {program}:
    try:
        with unwinding_on_signals():
            write()
    except Terminated as signal:
        sys.exit(signal.status)
else:
    write()
"""


def _restore(number: int) -> None:
    with suppress(OSError):  # SIGKILL
        signal.signal(number, signal.SIG_DFL)


def killed(folder: Path, number: int, *, named: bool, program: bool, before: Callable[[], Any] | None = None) -> int:
    """Send a signal to a process in the middle of a file, and return its exit status."""
    code = WRITER.format(named=named, program=program)
    default = partial(_restore, number)  # nohup, for example, leaves SIGHUP ignored in its children
    options: Any = {"cwd": folder, "env": ENVIRONMENT, "stdout": subprocess.PIPE, "preexec_fn": before or default}
    with subprocess.Popen([sys.executable, "-c", code], **options) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == b"ready\n"
            process.send_signal(number)
            return process.wait(1 if before else 30)
        finally:
            process.kill()


@pytest.mark.skipif(not hasattr(os, "O_TMPFILE"), reason="this system has no files without a name")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGKILL", "SIGUSR1", "SIGALRM"])
def test_no_signal_leaves_a_nameless_file(tmp_path: Path, name: str) -> None:
    """Not even in a library, whose caller handles no signals."""
    (tmp_path / "out").write_bytes(b"old")
    number = getattr(signal, name)
    assert killed(tmp_path, number, named=False, program=False) == -number
    assert names(tmp_path) == ["out"] and (tmp_path / "out").read_bytes() == b"old"


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_program_removes_a_named_file(tmp_path: Path, name: str) -> None:
    number = getattr(signal, name)
    assert killed(tmp_path, number, named=True, program=True) == 128 + number
    assert names(tmp_path) == []


def test_ignored_signals_stay_ignored(tmp_path: Path) -> None:
    """As under nohup."""
    with pytest.raises(subprocess.TimeoutExpired):
        killed(
            tmp_path,
            signal.SIGHUP,
            named=False,
            program=True,
            before=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN) and None,
        )


def test_signals_are_left_as_they_were() -> None:
    numbers = (signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    with unwinding_on_signals():
        assert [signal.getsignal(number) for number in numbers] != before
        with pytest.raises(Terminated) as raised:
            signal.raise_signal(signal.SIGTERM)
        assert (raised.value.name, raised.value.status) == ("SIGTERM", 143)
    assert [signal.getsignal(number) for number in numbers] == before
    noted: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: noted.append(number))
    try:
        with unwinding_on_signals():  # the caller's own handler stays
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before[0])
    assert noted == [signal.SIGTERM]


def test_other_threads_handle_no_signals() -> None:
    entered: list[bool] = []

    def enter() -> None:
        with unwinding_on_signals():
            entered.append(True)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert entered == [True]
