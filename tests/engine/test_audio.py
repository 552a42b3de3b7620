from __future__ import annotations

import os
import stat
import struct
import subprocess
import sys
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engine import audio as module
from engine.audio import read_wav, write_wav
from engine.errors import InputError

RATE = 22050
VALUES = {
    1: (bytes([0, 1, 127, 128, 129, 255]), [-1, -127 / 128, -1 / 128, 0, 1 / 128, 127 / 128]),
    2: (struct.pack("<4h", -32768, -1, 0, 32767), [-1, -1 / 32768, 0, 32767 / 32768]),
    3: (bytes.fromhex("000080 ffffff 000000 010000 ffff7f"), [-1, -(2.0**-23), 0, 2.0**-23, 1 - 2.0**-23]),
    4: (
        struct.pack("<5i", -(2**31), -256, 0, 256, 2**31 - 128),
        [-1, -(2.0**-23), 0, 2.0**-23, 1 - 2.0**-24],
    ),
}


def riff(*chunks: tuple[bytes, bytes], size: int | None = None) -> bytes:
    body = b"".join(n + struct.pack("<I", len(d)) + d + b"\0" * (len(d) % 2) for n, d in chunks)
    return b"RIFF" + struct.pack("<I", 4 + len(body) if size is None else size) + b"WAVE" + body


def fmt(tag: int = 1, channels: int = 1, rate: int = RATE, bits: int = 16, extra: bytes = b"") -> tuple[bytes, bytes]:
    block = channels * bits // 8
    return b"fmt ", struct.pack("<HHIIHH", tag, channels, rate, rate * block, block, bits) + extra


def extension(tag: int, bits: int) -> bytes:
    return struct.pack("<HHIH", 22, bits, 4, tag) + bytes.fromhex("000000001000800000aa00389b71")


@pytest.mark.parametrize("width", VALUES)
def test_reads_what_the_standard_library_writes(tmp_path: Path, width: int) -> None:
    raw, expected = VALUES[width]
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(width)
        file.setframerate(8000)
        file.writeframes(raw)
    samples, rate = read_wav(tmp_path / "a.wav")
    assert rate == 8000 and type(rate) is int and samples.dtype == np.float32
    assert samples.tolist() == expected


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "PCM_32"])
@pytest.mark.parametrize("container", ["WAV", "WAVEX"])
def test_reads_what_libsndfile_writes(tmp_path: Path, container: str, subtype: str) -> None:
    soundfile = pytest.importorskip("soundfile")
    source = np.random.default_rng(0).uniform(-1, 1, 999).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", source, RATE, format=container, subtype=subtype)
    expected, _ = soundfile.read(tmp_path / "a.wav", dtype="float32")
    np.testing.assert_array_equal(read_wav(str(tmp_path / "a.wav"))[0], expected)


def test_writes_what_the_standard_library_reads(tmp_path: Path) -> None:
    source = np.array([0, 0.5, -0.5, 1, -1, 2.5, -2.5, 1 / 32768, 0.6 / 32768, -0.6 / 32768], np.float32)
    write_wav(tmp_path / "a.wav", source, 16000)
    with wave.open(str(tmp_path / "a.wav")) as file:
        assert file.getparams()[:4] == (1, 2, 16000, 10)
        samples = np.frombuffer(file.readframes(100), "<i2")
    assert samples.tolist() == [0, 16384, -16384, 32767, -32768, 32767, -32768, 1, 1, -1]
    assert (tmp_path / "a.wav").stat().st_size == 44 + 20


def test_every_16_bit_value_survives_a_round_trip(tmp_path: Path) -> None:
    every = (np.arange(-32768, 32768) / 32768).astype(np.float32)
    write_wav(tmp_path / "a.wav", every, RATE)
    np.testing.assert_array_equal(read_wav(tmp_path / "a.wav")[0], every)


@pytest.mark.parametrize("samples", [np.zeros(0, np.float32), np.zeros(5), torch.zeros(5), np.zeros(10)[::2]])
def test_other_audio_is_written(tmp_path: Path, samples: Any) -> None:
    write_wav(tmp_path / "a.wav", samples, RATE)
    assert read_wav(tmp_path / "a.wav")[0].tolist() == [0.0] * len(samples)


def test_odd_chunks_streams_and_padding_are_understood(tmp_path: Path) -> None:
    path, data = tmp_path / "a.wav", struct.pack("<3h", 1, 2, 3)
    expected = [1 / 32768, 2 / 32768, 3 / 32768]
    path.write_bytes(riff((b"LIST", b"odd"), fmt(extra=b"\0\0"), (b"fact", b"1234"), (b"data", data), (b"id3 ", b"x")))
    assert read_wav(path)[0].tolist() == expected
    path.write_bytes(riff(fmt(), size=0xFFFFFFFF) + b"data\xff\xff\xff\xff" + data)  # written into a pipe
    assert read_wav(path)[0].tolist() == expected
    path.write_bytes(riff(fmt(tag=0xFFFE, extra=extension(1, 16)), (b"data", data)))
    assert read_wav(path)[0].tolist() == expected


DATA = (b"data", bytes(12))
BAD_FILES = [
    (b"", "expected a RIFF WAV file"),
    (b"fLaC" + bytes(100), "starts with b'fLaC'"),
    (b"RIFX" + bytes(4) + b"WAVE", "RIFX"),
    (riff(), "truncated or damaged"),
    (riff(fmt()), "expected a fmt and a data chunk"),
    (riff(DATA), "expected a fmt and a data chunk"),
    (riff(fmt(), DATA)[:-2], "expected 12 bytes in chunk b'data', got 10: the file is truncated"),
    (riff(fmt())[:30], "truncated"),
    (riff((b"fmt ", bytes(10)), DATA), "fmt chunk of at least 16 bytes, got 10"),
    (riff(fmt(tag=3, bits=32), DATA), r"expected integer PCM, got IEEE float \(0x0003\)"),
    (riff(fmt(tag=0xFFFE, bits=32, extra=extension(3, 32)), DATA), "IEEE float"),
    (riff(fmt(tag=2, bits=4), DATA), "ADPCM"),
    (riff(fmt(tag=6, bits=8), DATA), "A-law"),
    (riff(fmt(tag=7, bits=8), DATA), "mu-law"),
    (riff(fmt(tag=0x55), DATA), "MP3"),
    (riff(fmt(tag=0x1234), DATA), r"got format \(0x1234\)"),
    (riff(fmt(tag=0xFFFE), DATA), r"\(0xfffe\)"),
    (riff(fmt(channels=2), DATA), "expected one channel, got 2"),
    (riff(fmt(channels=0), DATA), "expected one channel, got 0"),
    (riff(fmt(bits=12), DATA), "expected 8, 16, 24 or 32 bits per sample, got 12"),
    (riff(fmt(bits=64), DATA), "got 64"),
    (riff(fmt(rate=0), DATA), "consistent fmt chunk"),
    (riff((b"fmt ", struct.pack("<HHIIHH", 1, 1, RATE, RATE, 1, 16)), DATA), "got 1 bytes per 16-bit sample"),
    (riff(fmt(), (b"data", bytes(5))), "whole samples of 2 bytes, got 5"),
]


@pytest.mark.parametrize(("content", "message"), BAD_FILES, ids=range(len(BAD_FILES)))
def test_bad_files_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "bad.wav").write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        read_wav(tmp_path / "bad.wav")
    assert "bad.wav" in str(caught.value)


def test_no_cut_of_a_good_file_does_harm(tmp_path: Path) -> None:
    good = riff((b"LIST", b"odd"), fmt(), DATA)
    for cut in range(len(good)):
        (tmp_path / "a.wav").write_bytes(good[:cut])
        with pytest.raises(InputError):
            read_wav(tmp_path / "a.wav")


def test_unreadable_paths(tmp_path: Path) -> None:
    for path in (tmp_path / "none.wav", tmp_path, "a\0b", 5, None):
        with pytest.raises(InputError, match="path: cannot read"):
            read_wav(path)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        ([0.0], "audio: expected a numpy array or a torch tensor, got list"),
        (np.zeros(5, np.int16), "audio: expected float32 or float64, got int16"),
        (np.zeros((1, 5), np.float32), r"audio: expected one channel of shape \[n\], got shape \(1, 5\)"),
        (np.array([0, np.nan]), "audio: expected finite values"),
        (np.array([0, np.inf]), "audio: expected finite values"),
        (np.broadcast_to(np.float32(0), (2**31,)), "audio: expected at most 2147483629 samples"),
    ],
)
def test_bad_audio_is_refused(tmp_path: Path, samples: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        write_wav(tmp_path / "a.wav", samples, RATE)
    assert not list(tmp_path.iterdir())


def test_bad_rates_and_paths_are_refused(tmp_path: Path) -> None:
    silence = np.zeros(5, np.float32)
    with pytest.raises(InputError, match="sample_rate"):
        write_wav(tmp_path / "a.wav", silence, 0)
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "to_directory").symlink_to(tmp_path)
    for path, message in (
        (tmp_path / "none" / "a.wav", "there is no directory '.*none'"),
        (tmp_path, "it is a directory"),
        (tmp_path / "to_directory", "it is a directory"),
        ("", "it is a directory"),
        (tmp_path / "file" / "a.wav", "there is no directory|Not a directory"),
        (tmp_path / "fifo", "it is not a regular file"),
        ("/dev/null", "it is not a regular file"),
        (tmp_path / ("x" * 300), "name too long"),
        ("a\0b", "null"),
        (None, "not NoneType|got NoneType"),
    ):
        with pytest.raises(InputError, match=f"path: cannot write .*({message})"):
            write_wav(path, silence, RATE)  # type: ignore[arg-type]
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    assert {p.name for p in tmp_path.iterdir()} == {"file", "fifo", "to_directory"}


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="POSIX permissions")
def test_a_directory_without_permission(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(0o555)
    code = (
        "import os, numpy as np, engine.audio\n"
        "if os.geteuid() == 0: os.setuid(65534)\n"
        "try: engine.audio.write_wav('a.wav', np.zeros(5), 22050)\n"
        "except ValueError as error: print(error)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    result = subprocess.run([sys.executable, "-c", code], cwd=closed, env=environment, capture_output=True, text=True)
    assert result.stdout.strip() == "path: cannot write 'a.wav': Permission denied", result.stderr
    assert not list(closed.iterdir())


def test_the_file_has_ordinary_permissions(tmp_path: Path) -> None:
    (tmp_path / "ordinary").touch()
    write_wav(tmp_path / "a.wav", np.zeros(5), RATE)
    assert (tmp_path / "a.wav").stat().st_mode == (tmp_path / "ordinary").stat().st_mode


def test_files_and_links_are_replaced_and_their_targets_kept(tmp_path: Path) -> None:
    old, link, dangling = tmp_path / "old.wav", tmp_path / "link.wav", tmp_path / "dangling.wav"
    old.write_bytes(b"old")
    link.symlink_to(old)
    dangling.symlink_to(tmp_path / "nowhere")
    for path in (link, dangling):
        write_wav(path, np.zeros(5), RATE)
        assert not path.is_symlink() and len(read_wav(path)[0]) == 5
    assert old.read_bytes() == b"old" and not (tmp_path / "nowhere").exists()
    with open(old, "rb") as reader:  # who reads the old file goes on reading it
        write_wav(old, np.zeros(5), RATE)
        assert reader.read() == b"old"
    assert len(read_wav(old)[0]) == 5


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_nothing_half_written_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, call: str
) -> None:
    (tmp_path / "a.wav").write_bytes(b"old")

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(module.os, call, fail)
    expected = InputError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(expected, match="No space left" if expected is InputError else None):
        write_wav(tmp_path / "a.wav", np.zeros(5), RATE)
    assert [p.name for p in tmp_path.iterdir()] == ["a.wav"] and (tmp_path / "a.wav").read_bytes() == b"old"
