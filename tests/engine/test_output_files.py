"""Checks of output files and folders before the work."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from engine import output_files
from engine.errors import InputError
from engine.output_files import check_folder, check_output


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
        "import os\nfrom pathlib import Path\nfrom engine.output_files import check_output\n"
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
