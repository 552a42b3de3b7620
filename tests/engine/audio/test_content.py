"""Recordings from bytes and open files, and what stands around the audio of a WAV file."""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from engine.audio.lengths import count_samples
from engine.audio.mel_files import read_mel
from engine.audio.pcm import wav_header
from engine.audio.wav import read_audio, read_channels, read_wav, write_wav
from engine.errors import InputError

AUDIO = np.linspace(-0.9, 0.9, 1000).astype(np.float32)
READERS: list[Callable[[Any], tuple[npt.NDArray[np.float32], int]]] = [read_audio, read_wav, read_channels]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    write_wav(tmp_path / "a.wav", AUDIO, 16000)
    return tmp_path / "a.wav"


def id3(size: int, footer: bool = False) -> bytes:
    """Return an ID3v2.4 tag with `size` bytes of frames."""
    digits = bytes((size >> shift) & 0x7F for shift in (21, 14, 7, 0))
    head = b"\x04\x00" + (b"\x10" if footer else b"\x00") + digits
    return b"ID3" + head + b"\x01" * size + (b"3DI" + head if footer else b"")


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("form", [bytes, bytearray, memoryview, io.BytesIO])
def test_content_is_read_as_the_file(file: Path, read: Callable[[Any], Any], form: Callable[[bytes], Any]) -> None:
    expected, rate = read(file)
    audio, same = read(form(file.read_bytes()))
    assert audio.tobytes() == expected.tobytes() and same == rate == 16000


@pytest.mark.parametrize("read", READERS)
def test_open_files_and_the_home_folder(
    file: Path, read: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(file.parent))
    expected = read(file)[0].tobytes()
    with open(file, "rb") as opened:
        assert read(opened)[0].tobytes() == expected
    assert read("~/a.wav")[0].tobytes() == expected


@pytest.mark.parametrize("read", READERS)
def test_other_arguments_are_named(file: Path, read: Callable[[Any], Any]) -> None:
    with open(file, encoding="latin-1") as text, pytest.raises(InputError, match="mode 'rb', got one opened as text"):
        read(text)
    with open(file, "ab") as writing, pytest.raises(InputError, match=r"mode .rb., got .*a\.wav"):
        read(writing)
    for other in (3, None, AUDIO, [str(file)]):
        with pytest.raises(InputError, match=f"path: expected a path, bytes or .*, got {type(other).__name__}"):
            read(other)
    with pytest.raises(InputError, match=r"got the address .https://x.org/a\.wav.; download it first"):
        read("https://x.org/a.wav")
    with pytest.raises(InputError) as caught:
        read(b"\x00" * 5000)
    assert len(str(caught.value)) < 200, "the message does not contain the content"


def test_writing_to_an_open_file(file: Path) -> None:
    memory = io.BytesIO()
    write_wav(memory, AUDIO, 16000)
    assert memory.getvalue() == file.read_bytes()
    with pytest.raises(InputError, match="cannot write it"), open(file, "rb") as reading:
        write_wav(reading, AUDIO, 16000)


@pytest.mark.parametrize("size", [0, 1, 127, 128, 300, 20000])
@pytest.mark.parametrize("footer", [False, True])
def test_a_tag_in_front_of_a_wav_file_is_skipped(file: Path, size: int, footer: bool) -> None:
    audio, rate = read_audio(id3(size, footer) + file.read_bytes())
    assert audio.tobytes() == read_audio(file)[0].tobytes() and rate == 16000
    file.write_bytes(id3(size, footer) + file.read_bytes())
    assert count_samples(file) == (1000, 16000)


@pytest.mark.parametrize("count", [130, 1000, 1998])
def test_bytes_behind_the_audio_are_not_lost_without_a_word(file: Path, count: int) -> None:
    content = file.read_bytes()
    short = wav_header(len(content) - 44 - count, 16000) + content[44:]  # the header was not corrected at the end
    file.write_bytes(short)
    with pytest.warns(UserWarning, match=rf"a.wav': got {count} bytes behind the {2000 - count} bytes of audio"):
        assert len(read_audio(file)[0]) == (2000 - count) // 2


@pytest.mark.parametrize(
    "behind",
    [b"", b"\0" * 5000, b"TAG" + b"x" * 125, b"LIST" + struct.pack("<I", 300) + b"y" * 300, b"\n"],
    ids=["nothing", "zeros", "ID3v1", "a chunk", "a line feed"],
)
def test_what_is_common_behind_the_audio_is_no_warning(file: Path, behind: bytes) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_audio(file.read_bytes() + behind)[0].tobytes() == read_audio(file)[0].tobytes()


def test_a_link_that_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / "a.wav").symlink_to("gone.wav")
    (tmp_path / "a.npy").symlink_to("gone.npy")
    readers: tuple[tuple[str, Callable[[Any], Any]], ...] = (("wav", read_audio), ("wav", read_wav), ("npy", read_mel))
    for suffix, read in readers:
        with pytest.raises(
            InputError, match=rf"cannot read it: it is a link to 'gone\.{suffix}', which does not exist"
        ):
            read(tmp_path / f"a.{suffix}")


@pytest.mark.parametrize(
    ("start", "kind"),
    [
        (b"\x93NUMPY\x01\x00", "a NumPy array"),
        (b"PK\x03\x04", "an archive such as"),
        (bytes(8) + b'{"', "a safetensors"),
    ],
)
def test_a_mel_is_named(start: bytes, kind: str) -> None:
    with pytest.raises(InputError, match=rf"got {kind}.*; if it is a mel, vocode\(mel\) turns it into audio"):
        read_audio(start + bytes(99))
