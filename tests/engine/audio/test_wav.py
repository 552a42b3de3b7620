"""WAV files, other formats through soundfile, and resampling."""

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

from engine.audio import wav
from engine.audio.wav import is_encoded, read_audio, read_wav, resample, write_wav
from engine.errors import InputError, UnavailableError
from tests.support.tolerances import TOLERANCES

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
def test_files_of_the_standard_library(tmp_path: Path, width: int) -> None:
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
def test_files_of_libsndfile(tmp_path: Path, container: str, subtype: str) -> None:
    soundfile = pytest.importorskip("soundfile")
    source = np.random.default_rng(0).uniform(-1, 1, 999).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", source, RATE, format=container, subtype=subtype)
    expected, _ = soundfile.read(tmp_path / "a.wav", dtype="float32")
    np.testing.assert_array_equal(read_wav(str(tmp_path / "a.wav"))[0], expected)


@pytest.mark.parametrize("kind", ["f4", "f8"])
@pytest.mark.parametrize("tag", [3, 0xFFFE])
def test_float_values_do_not_change(tmp_path: Path, kind: str, tag: int) -> None:
    values = np.array([0, -1, 0.1, 1.5, -3e38], kind)
    bits = values.itemsize * 8
    extra = extension(3, bits) if tag == 0xFFFE else b""
    (tmp_path / "a.wav").write_bytes(riff(fmt(tag, bits=bits, extra=extra), (b"data", values.tobytes())))
    for read in (read_wav, read_audio):
        samples, _ = read(tmp_path / "a.wav")
        assert samples.dtype == np.float32
        np.testing.assert_array_equal(samples, values.astype(np.float32))


def test_the_standard_library_reads_the_file(tmp_path: Path) -> None:
    source = np.array([0, 0.5, -0.5, 1, -1, 2.5, -2.5, 1 / 32768, 0.6 / 32768, -0.6 / 32768], np.float32)
    write_wav(tmp_path / "a.wav", source, 16000)
    with wave.open(str(tmp_path / "a.wav")) as file:
        assert file.getparams()[:4] == (1, 2, 16000, 10)
        samples = np.frombuffer(file.readframes(100), "<i2")
    assert samples.tolist() == [0, 16384, -16384, 32767, -32768, 32767, -32768, 1, 1, -1]
    assert (tmp_path / "a.wav").stat().st_size == 44 + 20


def test_every_16_bit_value_survives_a_round_trip(tmp_path: Path) -> None:
    values = (np.arange(-32768, 32768) / 32768).astype(np.float32)
    write_wav(tmp_path / "a.wav", values, RATE)
    np.testing.assert_array_equal(read_wav(tmp_path / "a.wav")[0], values)


@pytest.mark.parametrize("samples", [np.zeros(0, np.float32), np.zeros(5), torch.zeros(5), np.zeros(10)[::2]])
def test_empty_strided_and_torch_audio(tmp_path: Path, samples: Any) -> None:
    write_wav(tmp_path / "a.wav", samples, RATE)
    assert read_wav(tmp_path / "a.wav")[0].tolist() == [0.0] * len(samples)


def test_odd_chunks_pipes_and_extensible_formats(tmp_path: Path) -> None:
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
    (b"RIFX" + bytes(4) + b"AVI ", "RIFX"),
    (riff(), "truncated or damaged"),
    (riff(fmt()), "expected a fmt and a data chunk"),
    (riff(DATA), "expected a fmt and a data chunk"),
    (riff(fmt(), DATA)[:-12], "expected 12 bytes of audio, got 0: the file is truncated, 12 bytes are missing"),
    (riff(fmt(), (b"data", bytes(400)))[:-130], "expected 400 bytes of audio, got 270: the file is truncated, 130"),
    (riff(fmt())[:30], "truncated"),
    (riff((b"fmt ", bytes(10)), DATA), "fmt chunk of at least 16 bytes, got 10"),
    (riff(fmt(tag=3, bits=16), DATA), "expected 32 or 64 bits per sample, got 16"),
    (riff(fmt(tag=2, bits=4), DATA), r"expected PCM or float, got Microsoft ADPCM \(0x0002\)"),
    (riff(fmt(tag=0xFFFE, bits=8, extra=extension(7, 8)), DATA), "mu-law"),
    (riff(fmt(tag=6, bits=8), DATA), "A-law"),
    (riff(fmt(tag=7, bits=8), DATA), "mu-law"),
    (riff(fmt(tag=0x55), DATA), "MP3"),
    (riff(fmt(tag=0x1234), DATA), r"got format \(0x1234\)"),
    (riff(fmt(tag=0xFFFE), DATA), r"\(0xfffe\)"),
    (riff(fmt(channels=2), DATA), "expected one channel, got 2"),
    (riff(fmt(channels=0), DATA), "expected one channel, got 0"),
    (riff(fmt(bits=12), DATA), "expected 8, 16, 24 or 32 bits per sample, got 12"),
    (riff(fmt(bits=64), DATA), "got 64"),
    (riff(fmt(rate=0), DATA), "expected a sample rate above 0 Hz, got 0"),
    (riff((b"fmt ", struct.pack("<HHIIHH", 1, 1, RATE, RATE * 4, 4, 16)), DATA), "blocks of 4 bytes for 1 x 16 bits"),
    (riff(fmt(), (b"data", bytes(1))), "expected at least one frame of 2 bytes, got 1"),
]


@pytest.mark.parametrize(("content", "message"), BAD_FILES, ids=range(len(BAD_FILES)))
def test_impossible_files(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "bad.wav").write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        read_wav(tmp_path / "bad.wav")
    assert "bad.wav" in str(caught.value)


def test_every_truncation_raises(tmp_path: Path) -> None:
    good = riff((b"LIST", b"odd"), fmt(), (b"data", bytes(140)))
    for cut in range(len(good) - 128):
        (tmp_path / "a.wav").write_bytes(good[:cut])
        with pytest.raises(InputError):
            read_wav(tmp_path / "a.wav")


def test_unreadable_paths(tmp_path: Path) -> None:
    for path in (tmp_path / "none.wav", tmp_path, "a\0b"):
        with pytest.raises(InputError, match=r"path: .*cannot read it: "):
            read_wav(path)


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
def test_impossible_audio(tmp_path: Path, samples: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        write_wav(tmp_path / "a.wav", samples, RATE)
    assert not list(tmp_path.iterdir())


def test_impossible_rates_and_paths(tmp_path: Path) -> None:
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
        with pytest.raises(InputError, match=f"path: .*: cannot write it: .*({message})"):
            write_wav(path, silence, RATE)  # type: ignore[arg-type]
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    assert {p.name for p in tmp_path.iterdir()} == {"file", "fifo", "to_directory"}


@pytest.mark.parametrize("suffix", [".flac", ".OGG", ".mp3", ".npy", ".raw"])
def test_names_of_other_formats_are_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"old")
    with pytest.raises(InputError, match=rf"^path: .*a\{suffix}': expected a name that ends in .wav, .*; name it .wav"):
        write_wav(path, np.zeros(5), RATE)
    assert path.read_bytes() == b"old"
    with pytest.raises(InputError, match=r"format='flac'\) or 'engine vocode' write .flac"):
        write_wav("a.flac", np.zeros(5), RATE)


@pytest.mark.parametrize("name", ["a", "a.WAV", "a.wave", "a.tmp", "a.wav.part", "take 1.5"])
def test_names_that_promise_no_other_format(tmp_path: Path, name: str) -> None:
    write_wav(tmp_path / name, np.zeros(5), RATE)
    assert len(read_wav(tmp_path / name)[0]) == 5


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="POSIX permissions")
def test_a_directory_without_permission(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(0o555)
    code = (
        "import os, numpy as np, engine.audio.wav\n"
        "if os.geteuid() == 0: os.setuid(65534)\n"
        "try: engine.audio.wav.write_wav('a.wav', np.zeros(5), 22050)\n"
        "except ValueError as error: print(error)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    result = subprocess.run([sys.executable, "-c", code], cwd=closed, env=environment, capture_output=True, text=True)
    assert result.stdout.strip() == "path: 'a.wav': cannot write it: Permission denied", result.stderr
    assert not list(closed.iterdir())


def test_permissions_follow_the_umask(tmp_path: Path) -> None:
    (tmp_path / "ordinary").touch()
    write_wav(tmp_path / "a.wav", np.zeros(5), RATE)
    assert (tmp_path / "a.wav").stat().st_mode == (tmp_path / "ordinary").stat().st_mode


def test_links_are_replaced_and_their_targets_kept(tmp_path: Path) -> None:
    old, link, dangling = tmp_path / "old.wav", tmp_path / "link.wav", tmp_path / "dangling.wav"
    old.write_bytes(b"old")
    link.symlink_to(old)
    dangling.symlink_to(tmp_path / "nowhere")
    for path in (link, dangling):
        write_wav(path, np.zeros(5), RATE)
        assert not path.is_symlink() and len(read_wav(path)[0]) == 5
    assert old.read_bytes() == b"old" and not (tmp_path / "nowhere").exists()
    with open(old, "rb") as reader:  # an open reader keeps the old file
        write_wav(old, np.zeros(5), RATE)
        assert reader.read() == b"old"
    assert len(read_wav(old)[0]) == 5


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_an_interrupted_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, call: str
) -> None:
    (tmp_path / "a.wav").write_bytes(b"old")

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(wav.os, call, fail)
    expected = InputError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(expected, match="No space left" if expected is InputError else None):
        write_wav(tmp_path / "a.wav", np.zeros(5), RATE)
    assert [p.name for p in tmp_path.iterdir()] == ["a.wav"] and (tmp_path / "a.wav").read_bytes() == b"old"


def recording(n: int = 5000, channels: int = 1) -> np.ndarray:
    t = np.arange(n)[:, None] / RATE
    return (0.3 * np.sin(2 * np.pi * 440 * t * np.arange(1, channels + 1))).astype(np.float32)


def encoded(path: Path, samples: np.ndarray, kind: str, subtype: str | None = None) -> Path:
    soundfile = pytest.importorskip("soundfile")
    if kind not in soundfile.available_formats():
        pytest.skip(f"this libsndfile has no {kind}")
    soundfile.write(path, samples, RATE, format=kind, subtype=subtype)
    return path


ENCODINGS = [("FLAC", "PCM_16"), ("FLAC", "PCM_24"), ("OGG", "VORBIS"), ("MP3", None), ("AIFF", "PCM_16")]
ENCODINGS += [("WAV", "ULAW"), ("WAV", "MS_ADPCM"), ("WAVEX", "ALAW")]


@pytest.mark.parametrize(("kind", "subtype"), ENCODINGS)
@pytest.mark.parametrize("channels", [1, 2])
def test_other_formats_through_soundfile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, subtype: str | None, channels: int
) -> None:
    source = recording(5000, channels)
    path = encoded(tmp_path / "name.says.nothing", source, kind, subtype)
    monkeypatch.setattr(wav, "BLOCK", 999)  # several reads
    samples, rate = read_audio(path, mix=True)
    assert rate == RATE and samples.dtype == np.float32 and samples.flags.c_contiguous
    assert abs(len(samples) - 5000) < 1200  # ADPCM pads its last block
    error = samples[: len(source)][:5000] - source.mean(axis=1)[: len(samples)]
    assert np.sqrt(np.mean(error[600:-600] ** 2)) < 0.02 * 0.3
    assert is_encoded(path) == (not kind.startswith("WAV"))
    if channels == 2:
        with pytest.raises(InputError, match=r"nothing': expected one channel, got 2; .* average them with mix=True"):
            read_audio(path)
    else:
        np.testing.assert_array_equal(read_audio(path)[0], samples)


def test_flac_is_exact_and_mixing_averages(tmp_path: Path) -> None:
    soundfile = pytest.importorskip("soundfile")
    source = np.random.default_rng(0).uniform(-1, 1, (3000, 3)).astype(np.float32)
    for kind, subtype in (("FLAC", "PCM_16"), ("WAV", "PCM_16"), ("WAV", "FLOAT")):
        path = encoded(tmp_path / "a", source, kind, subtype)
        exact, _ = soundfile.read(path)
        np.testing.assert_array_equal(read_audio(path, mix=True)[0], exact.mean(axis=1).astype(np.float32))


def test_formats_that_need_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = {kind: encoded(tmp_path / f"a.{kind}", recording(), kind) for kind in ("FLAC", "OGG", "MP3", "AIFF")}
    paths["mu-law"] = encoded(tmp_path / "a.wav", recording(), "WAV", "ULAW")
    stereo = (recording(100, 2) * 32768).astype("<i2")
    (tmp_path / "stereo.wav").write_bytes(riff(fmt(channels=2), (b"data", stereo.tobytes())))
    monkeypatch.setitem(sys.modules, "soundfile", None)
    np.testing.assert_allclose(read_audio(tmp_path / "stereo.wav", mix=True)[0], stereo.mean(axis=1) / 32768, atol=1e-7)
    for name, path in paths.items():
        with pytest.raises(UnavailableError) as caught:
            read_audio(path)
        format_name = {"OGG": "Ogg", "mu-law": "mu-law (0x0007)"}.get(name, name)
        assert str(caught.value) == (
            f"path: {str(path)!r}: reading {format_name} needs soundfile: pip install soundfile (the extra 'audio')"
        )


def test_the_engine_does_not_import_the_extras() -> None:
    code = "import sys, engine, engine.cli.main; print({'soundfile', 'soxr', 'librosa', 'scipy'} & set(sys.modules))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"


@pytest.mark.parametrize("kind", ["FLAC", "MP3"])
def test_truncated_encodings(tmp_path: Path, kind: str) -> None:
    path = encoded(tmp_path / "a", np.random.default_rng(0).uniform(-0.5, 0.5, 60000), kind)
    content = path.read_bytes()
    for cut in (5, 60, len(content) // 2, len(content) - 1000):
        path.write_bytes(content[:cut])
        with pytest.raises(InputError, match=f"a': expected a {kind} file, got a damaged|the {kind} file is truncated"):
            read_audio(path)


@pytest.mark.parametrize("claimed", [0, 2**36 - 1])
def test_a_header_with_a_false_length(tmp_path: Path, claimed: int) -> None:
    path = encoded(tmp_path / "a.flac", recording(), "FLAC")
    content = bytearray(path.read_bytes())
    # STREAMINFO's last 36 bits before the checksum count the samples; 0 stands for an unknown number.
    content[21:26] = bytes([content[21] & 0xF0 | claimed >> 32]) + (claimed & 0xFFFFFFFF).to_bytes(4, "big")
    path.write_bytes(content)
    if claimed:
        with pytest.raises(InputError, match="expected 68719476735 samples, got 5000: the FLAC file is truncated"):
            read_audio(path)
    else:
        assert len(read_audio(path)[0]) == 5000


def test_files_that_are_not_audio(tmp_path: Path) -> None:
    path = tmp_path / "a.mp3"
    path.write_bytes(b"")
    with pytest.raises(InputError, match=r"a\.mp3': expected audio, got an empty file"):
        read_audio(path)
    for content in (b"\x93NUMPY\1\0", b"\xff\xfe\0\0", b"\x89PNG", b"\xff", b"RIFZ1234WAVE", b"ftypM4A "):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"a\.mp3': expected WAV, .* audio, got a (file that|NumPy)"):
            read_audio(path)
        assert not is_encoded(path)
    for start in (b"fLaC", b"OggS", b"FORM", b"ID3\4", b"\xff\xfb\x90\0"):
        path.write_bytes(start + os.urandom(2000))
        assert is_encoded(path)
        with pytest.raises(InputError, match="damaged or truncated"):
            read_audio(path)
    assert not is_encoded(tmp_path) and not is_encoded(tmp_path / "none")
    for missing in (tmp_path / "none.wav", tmp_path):
        with pytest.raises(InputError, match=r"path: .*cannot read it: "):
            read_audio(missing)


@pytest.mark.parametrize(("source", "target"), [(44100, 22050), (16000, 22050), (22050, 24000), (48000, 8000)])
def test_resampling_a_sine(source: int, target: int) -> None:
    pytest.importorskip("soxr")
    audio = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(source) / source + 1)
    expected = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(target) / target + 1)
    for source_audio in (audio, audio.astype(np.float32), torch.from_numpy(audio)):
        got = resample(source_audio, source, target)
        assert isinstance(got, np.ndarray) and got.dtype == np.float32 and abs(len(got) - target) <= 1
        middle = slice(500, -500)
        assert np.abs(got[:target] - expected[: len(got)])[middle].max() <= TOLERANCES["resampled_sine"]


def test_resampling_removes_what_would_alias() -> None:
    pytest.importorskip("soxr")
    audio = np.sin(2 * np.pi * 9000 * np.arange(44100) / 44100)
    assert np.abs(resample(audio, 44100, 16000)[500:-500]).max() < 1e-4


def test_resampling_without_soxr(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "soxr", None)
    audio = recording()[:, 0]
    assert resample(audio, RATE, RATE) is audio
    with pytest.raises(
        UnavailableError, match=r"from 22050 to 16000 Hz needs soxr: pip install soxr \(the extra 'audio"
    ):
        resample(audio, RATE, 16000)


def test_impossible_resampling() -> None:
    audio = recording()[:, 0]
    for arguments, message in (
        (([0.0], RATE, 16000), "audio: expected a numpy array"),
        ((recording(100, 2), RATE, 16000), "audio: expected one channel"),
        ((audio, 0, 16000), "sample_rate: expected"),
        ((audio, RATE, 16000.0), "sample_rate: expected"),
    ):
        with pytest.raises(InputError, match=message):
            resample(*arguments)
