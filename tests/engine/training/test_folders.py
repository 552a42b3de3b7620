"""Folders of recordings as they are: hidden files, links, other files, and recordings that are broken."""

from __future__ import annotations

import io
import os
import struct
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.audio import folders
from engine.audio.folders import find_recordings, looks_complete
from engine.errors import InputError, UnavailableError
from engine.training import __main__ as command
from engine.training import data as data_module
from engine.training.data import Corpus, read_corpus
from engine.training.settings import Recipe
from tests.engine.training.recordings import digits_recipe, recipe_text, voice_recipe, write_digits, write_tones


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def found(folder: Path, pattern: str = "**/*") -> list[str]:
    return [str(file.relative_to(folder)) for file in find_recordings(folder, pattern).files]


def test_hidden_names_are_passed_by(tmp_path: Path) -> None:
    touch(tmp_path, "000.wav", "._000.wav", ".DS_Store", ".wav", "..b.wav", ".cache/a.wav", "x/.y/z/b.wav", "x/c.wav")
    touch(tmp_path, "__MACOSX/._000.wav")
    recordings = find_recordings(tmp_path, "**/*")
    assert found(tmp_path) == ["000.wav", "x/c.wav"] and recordings.hidden == 7
    assert recordings.passed_by == '7 hidden (names that begin with ".")'
    assert found(tmp_path, ".cache/*") == [".cache/a.wav"]  # as in a shell
    assert found(tmp_path, "x/.*/**/*.wav") == ["x/.y/z/b.wav"]
    assert found(tmp_path / ".cache") == ["a.wav"]  # the folder itself may have any name


TREE = ("a.wav", "b.FLAC", "c.txt", "s1/a.wav", "s1/d.mp3", "s1/wavs/e.wav", "s2/wavs/f.ogg", "s2/wavs/deep/g.wav")
PATTERNS = ("*", "*.*", "*.wav", "**/*", "**/*.*", "**/*.wav", "s1/*", "s*/*", "*/wavs/*", "**/wavs/*", "**/wavs/**/*")
PATTERNS += (
    "s[2-9]/**/*",
    "[!s]*",
    "s1/**/*.wav",
    "./*.wav",
    "s?/wavs/*.*",
    "**/**/*.wav",
    "absent/*",
    "s1",
    "**/s1/*",
)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_patterns_are_those_of_glob(tmp_path: Path, pattern: str) -> None:
    touch(tmp_path, *TREE)
    expected = sorted(file for file in tmp_path.glob(pattern) if file.is_file() and file.suffix != ".txt")
    assert list(find_recordings(tmp_path, pattern).files) == expected


def test_folders_that_cannot_match_are_not_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, *TREE)
    scan, searched = os.scandir, []

    def scandir(path: Path) -> Any:
        searched.append(path.relative_to(tmp_path).as_posix())
        return scan(path)

    monkeypatch.setattr(folders.os, "scandir", scandir)
    assert found(tmp_path, "s1/*.wav") == ["s1/a.wav"] and searched == [".", "s1"]


def test_links_to_folders_are_followed(tmp_path: Path) -> None:
    data = touch(tmp_path / "data", "own.wav")
    touch(tmp_path / "store", "s1/a.wav", "s2/b.wav", "s2/deep/c.wav")
    (data / "speaker1").symlink_to("../store/s1")
    (data / "speaker2").symlink_to(tmp_path / "store" / "s2")
    expected = ["own.wav", "speaker1/a.wav", "speaker2/b.wav", "speaker2/deep/c.wav"]
    assert found(data) == expected
    assert found(data, "speaker1/*.wav") == ["speaker1/a.wav"]
    (tmp_path / "link").symlink_to("data")
    assert found(tmp_path / "link") == expected


@pytest.mark.parametrize("target", [".", "..", "loop", "sub", "../data", "sub/back", "../other"])
def test_loops_of_links_end(tmp_path: Path, target: str) -> None:
    data = touch(tmp_path / "data", "a.wav", "sub/b.wav")
    (data / "sub" / "back").symlink_to(data)
    (data / "loop").symlink_to(target)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "again").symlink_to(data / "sub")
    recordings = find_recordings(data, "**/*")
    assert found(data) == ["a.wav", "sub/b.wav"]
    assert [reason for _, reason in recordings.broken] == ([os.strerror(40)] if target == "loop" else [])


def test_a_folder_that_is_reached_twice_is_read_once(tmp_path: Path) -> None:
    data = touch(tmp_path / "data", "m/a.wav", "m/n/b.wav")
    store = touch(tmp_path / "store", "c.wav")
    (data / "a_link").symlink_to("m")  # sorts before the folder itself
    (data / "z_link").symlink_to("m/n")
    for name in ("1", "2", "3"):
        (data / name).symlink_to(store)
    recordings = find_recordings(data, "**/*")
    assert found(data) == ["1/c.wav", "m/a.wav", "m/n/b.wav"]
    assert recordings.again == 4 and recordings.passed_by == "4 links to what is read already"


def test_a_file_that_is_reached_twice_is_read_once(tmp_path: Path) -> None:
    data = touch(tmp_path / "data", "m.wav", "sub/n.wav")
    touch(tmp_path, "store.wav")
    for name, target in (("a.wav", "m.wav"), ("z.wav", "sub/n.wav"), ("1.wav", "../store.wav"), ("2.wav", "1.wav")):
        (data / name).symlink_to(target)
    assert found(data) == ["1.wav", "m.wav", "sub/n.wav"] and find_recordings(data, "**/*").again == 3
    os.link(data / "m.wav", data / "hard.wav")  # a name of its own
    assert "hard.wav" in found(data)


def test_links_to_nothing_are_broken(tmp_path: Path) -> None:
    touch(tmp_path, "a.wav")
    for name in ("b.wav", "speaker", "notes.txt", ".hidden"):
        (tmp_path / name).symlink_to("absent")
    recordings = find_recordings(tmp_path, "**/*")
    assert [(path.name, reason) for path, reason in recordings.broken] == [
        ("b.wav", "it links to nothing"),
        ("speaker", "it links to nothing"),
    ]
    assert recordings.others == {".txt": 1} and recordings.hidden == 1


def test_closed_folders_are_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "a.wav", "closed/b.wav")
    scan = os.scandir

    def scandir(path: Path) -> Any:
        if path.name == "closed":
            raise PermissionError(13, "Permission denied")
        return scan(path)

    monkeypatch.setattr(folders.os, "scandir", scandir)
    assert find_recordings(tmp_path, "**/*").broken == ((tmp_path / "closed", "Permission denied"),)
    assert find_recordings(tmp_path, "*").broken == ()


def test_other_files_are_counted(tmp_path: Path) -> None:
    touch(tmp_path, "a.wav", "a.TXT", "b.txt", "README", *(f"x.{letter}" for letter in "abcdefg"))
    os.mkfifo(tmp_path / "pipe.wav")  # reading it would wait for ever
    recordings = find_recordings(tmp_path, "**/*")
    assert found(tmp_path) == ["a.wav"] and sum(recordings.others.values()) == 11
    assert recordings.passed_by.startswith("11 that are no recordings (.txt, ")
    assert recordings.passed_by.endswith(", ...)")
    assert find_recordings(tmp_path, "*.wav").passed_by == "1 that are no recordings (.wav)"
    assert find_recordings(tmp_path, "a.*v").passed_by == ""


# Headers


def riff(*chunks: tuple[bytes, bytes], sizes: dict[bytes, int] | None = None) -> bytes:
    parts = []
    for name, body in chunks:
        size = (sizes or {}).get(name, len(body))
        parts.append(struct.pack("<4sI", name, size) + body + b"\0" * (len(body) % 2))
    content = b"".join(parts)
    return struct.pack("<4sI4s", b"RIFF", 4 + len(content), b"WAVE") + content


FMT = (b"fmt ", struct.pack("<HHIIHH", 1, 1, 22050, 44100, 2, 16))
STEREO = (b"fmt ", struct.pack("<HHIIHH", 1, 2, 22050, 88200, 4, 16))
AUDIO = (b"data", b"\1\2" * 100)
LIST = (b"LIST", b"INFOabc")  # of an odd size


@pytest.mark.parametrize(
    ("content", "complete"),
    [
        (riff(FMT, AUDIO), True),
        (riff(LIST, FMT, LIST, AUDIO, LIST), True),
        (riff(STEREO, AUDIO), True),
        (riff(FMT, AUDIO) + b"trailing", True),
        (riff(FMT, AUDIO)[:-2], False),
        (riff(FMT, AUDIO)[:44], False),
        (riff(FMT, AUDIO)[:30], False),
        (riff(FMT, (b"data", b"")), False),
        (riff(FMT, (b"data", b"\1")), False),
        (riff(STEREO, (b"data", b"\1" * 6)), False),
        (riff(FMT, AUDIO, sizes={b"data": 0xFFFFFFFF}), False),
        (riff(FMT, AUDIO, sizes={b"data": 0x7FFFF000}), False),
        (riff(FMT, AUDIO, sizes={b"data": 202}), False),
        (riff(AUDIO, FMT), False),
        (riff(FMT), False),
        (riff(AUDIO), False),
        (riff((b"fmt ", b"\1\0" * 4), AUDIO), False),
        (riff(FMT, *[(b"JUNK", b"")] * 1000, AUDIO), False),
        (b"", False),
        (b"RIFF", False),
        (b"RIFF\0\0\0\0AVI LIST", False),
        (b"\0\5\26\7\0\2\0\0Mac OS X        ", False),
        (b"version https://git-lfs.github.com/spec/v1\n", False),
        (b"<html>", False),
    ],
)
def test_headers_of_wav_files(tmp_path: Path, content: bytes, complete: bool) -> None:
    (tmp_path / "a.wav").write_bytes(content)
    assert looks_complete(tmp_path / "a.wav") == complete


def test_only_the_header_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.wav"
    file.write_bytes(riff(FMT, AUDIO, sizes={b"data": 1 << 31}))
    os.truncate(file, (1 << 31) + 44)  # a sparse file of 2 GiB
    assert looks_complete(file)


@pytest.mark.parametrize("form", ["FLAC", "OGG", "AIFF", "MP3", "WAV"])
def test_headers_of_other_formats(tmp_path: Path, form: str) -> None:
    soundfile = pytest.importorskip("soundfile")
    if form not in soundfile.available_formats():
        pytest.skip(f"this libsndfile does not write {form}")
    file = tmp_path / "a.wav"  # the content decides
    soundfile.write(str(file), 0.1 * np.sin(np.arange(30000) / 10), 22050, format=form)
    assert looks_complete(file)
    file.write_bytes(file.read_bytes()[:20])
    assert not looks_complete(file)


# Broken recordings


def corpus_of(folder: Path, recipe: Recipe, skip_broken: bool = False) -> Corpus:
    return read_corpus(folder, recipe.data, recipe.network, skip_broken)


def nan_wav() -> bytes:
    samples = np.full(9000, np.nan, np.float32).tobytes()
    return riff((b"fmt ", struct.pack("<HHIIHH", 3, 1, 22050, 4 * 22050, 4, 32)), (b"data", samples))


def cut_flac() -> bytes:
    """Return a FLAC whose header is whole and whose audio ends in the middle."""
    soundfile = pytest.importorskip("soundfile")
    buffer = io.BytesIO()
    soundfile.write(buffer, 0.1 * np.random.default_rng(0).standard_normal(30000), 22050, format="FLAC")
    return buffer.getvalue()[:20000]


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    return write_tones(tmp_path / "data", 6, 22050, 0.3)


BROKEN: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "it is empty"),
    "no audio": (lambda: riff(FMT, (b"data", b"")), "it has no samples"),
    "cut": (lambda: riff(FMT, AUDIO)[:100], "truncated|cut short|missing"),
    "text": (lambda: b"not a recording at all", "expected WAV"),
    "a large-file pointer": (lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "expected WAV"),
    "headless": (lambda: riff(AUDIO), "fmt"),
    "NaN": (nan_wav, "NaN"),
    "cut FLAC": (cut_flac, "damaged or truncated|truncated"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_recording_is_named(recordings: Path, kind: str) -> None:
    content, reason = BROKEN[kind]
    (recordings / "9.wav").write_bytes(content())
    with pytest.raises(InputError, match=rf"^data: 1 of 7 recordings in .*: 9\.wav \(.*({reason}).*\); remove"):
        corpus_of(recordings, voice_recipe())
    corpus = corpus_of(recordings, voice_recipe(), skip_broken=True)
    assert len(corpus.train) + len(corpus.held_out) == 6
    (note,) = corpus.notes
    assert note.startswith(f"1 of 7 recordings in {recordings} cannot be read: 9.wav (")


def test_a_recording_that_is_read_with_a_warning_is_broken(recordings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (recordings / "9.wav").write_bytes(riff(FMT, (b"data", b"\1\2" * 9000), sizes={b"data": 1 << 20}))
    read = data_module.read_channels

    def warn(file: Path) -> Any:
        if file.name == "9.wav":
            warnings.warn(f"path: {str(file)!r}: half of the audio is missing", UserWarning, stacklevel=2)
            return np.ones((9000, 1), np.float32), 22050
        return read(file)

    monkeypatch.setattr(data_module, "read_channels", warn)
    with pytest.raises(InputError, match=r": 9\.wav \(half of the audio is missing\); remove"):
        corpus_of(recordings, voice_recipe())


def test_all_broken_recordings_are_in_one_message(recordings: Path) -> None:
    for number in range(40):
        (recordings / f"e{number:02}.wav").touch()
    (recordings / "gone.wav").symlink_to("absent")
    (recordings / "speaker").symlink_to("/absent")
    (recordings / "sub").mkdir()
    (recordings / "sub" / "text.flac").write_bytes(b"no audio")
    with pytest.raises(InputError) as raised:
        corpus_of(recordings, voice_recipe())
    message = str(raised.value)
    assert message.startswith("data: 43 of 49 recordings in ") and "\n" not in message
    for name in (*(f"e{number:02}.wav" for number in range(40)), "gone.wav", "speaker", "sub/text.flac"):
        assert name in message
    assert message.count("it is empty") == 1  # once for all files
    assert len(corpus_of(recordings, voice_recipe(), skip_broken=True).train) == 4


def test_broken_headers_are_found_before_anything_is_read(recordings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (recordings / "9.wav").touch()
    read: list[Path] = []
    monkeypatch.setattr(data_module, "read_channels", lambda file: read.append(file))
    with pytest.raises(InputError, match=r"9\.wav \(it is empty\)"):
        corpus_of(recordings, voice_recipe())
    assert read == []


def test_broken_bodies_are_named_together(recordings: Path) -> None:
    for name in ("7.wav", "8.wav"):
        (recordings / name).write_bytes(nan_wav())
    with pytest.raises(InputError, match=r"2 of 8 recordings in .*: 7\.wav, 8\.wav \(expected finite values"):
        corpus_of(recordings, voice_recipe())


def test_clips_without_a_mel_are_checked_too(tmp_path: Path) -> None:
    (write_digits(tmp_path) / "1_a_9.wav").write_bytes(nan_wav())
    with pytest.raises(InputError, match=r"1 of 19 .*: 1_a_9\.wav \(expected finite values"):
        corpus_of(tmp_path, digits_recipe())


def test_a_folder_of_broken_recordings_alone(tmp_path: Path) -> None:
    touch(tmp_path, "a.wav", "b.wav")
    for skip in (False, True):
        with pytest.raises(InputError, match=r"^data: 2 of 2 recordings in .* cannot be read: a\.wav, b\.wav"):
            corpus_of(tmp_path, voice_recipe(), skip)


def test_a_missing_package_is_not_a_broken_recording(recordings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (recordings / "a.flac").write_bytes(b"fLaC" + bytes(100))
    monkeypatch.setitem(__import__("sys").modules, "soundfile", None)
    with pytest.raises(UnavailableError, match="reading FLAC needs soundfile"):
        corpus_of(recordings, voice_recipe(), skip_broken=True)


def test_names_outside_utf_8(recordings: Path) -> None:
    os.rename(recordings / "3.wav", os.fsencode(recordings) + b"/\xff.wav")
    assert corpus_of(recordings, voice_recipe()).fingerprint.startswith("4 ")


# The command


@pytest.fixture
def fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Any]:
    (tmp_path / "recipe.toml").write_text(recipe_text(frames=1, steps=1, batch=1))
    monkeypatch.chdir(tmp_path)

    def run(*options: str) -> tuple[int, list[str]]:
        line = ["fit", "recipe.toml", "--data", "data", "--folder", "out", "--device", "cpu", "--precision", "fp32"]
        status = command.main([*line, "--validate-every", "0", *options])
        return status, capsys.readouterr().err.splitlines()

    yield run


def test_the_command_says_what_it_passes_by(recordings: Path, fit: Any) -> None:
    touch(recordings, ".DS_Store", "._0.wav", "metadata.csv")
    (recordings / "loop").symlink_to(".")
    status, lines = fit()
    assert status == 0 and lines[-1] == "done: out/state.safetensors"
    expected = '1 that are no recordings (.csv), 2 hidden (names that begin with "."), 1 links to what is read already'
    assert f"passed by: {expected}" in lines


def test_the_command_skips_broken_recordings(recordings: Path, fit: Any) -> None:
    touch(recordings, "8.wav", "9.wav")
    status, lines = fit()
    broken = "2 of 8 recordings in data cannot be read: 8.wav, 9.wav (it is empty)"
    assert status == 2
    assert lines[-1] == f"error: --data: {broken}; remove them, or train without them (--skip-broken)"
    assert not Path("out").exists()  # nothing has begun
    status, lines = fit("--skip-broken")
    assert status == 0 and broken in lines and lines[-1] == "done: out/state.safetensors"
