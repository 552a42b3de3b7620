"""Headers of WAV files as programs in the field write them."""

from __future__ import annotations

import struct
import sys
import tracemalloc
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.audio.wav import read_audio, read_channels, read_wav, write_wav
from engine.errors import InputError, UnavailableError

RATE = 22050
VALUES = (np.sin(np.arange(1000) * 0.05) * 8000).astype("<i2")
DATA, EXPECTED = VALUES.tobytes(), VALUES.astype(np.float32) / 32768
LIST = b"INFOISFT\5\0\0\0Lavf5"  # of an odd size


def read_first(path: Path) -> tuple[Any, int]:
    samples, rate = read_channels(path)
    return samples[:, 0], rate


READERS: tuple[Any, ...] = (read_wav, read_audio, read_first)


def chunk(name: bytes, body: bytes, size: int | None = None, pad: bytes = b"\0", order: str = "<") -> bytes:
    length = len(body) if size is None else size
    return name + struct.pack(f"{order}I", length) + body + pad * (len(body) % 2)


def fmt(
    tag: int = 1,
    channels: int = 1,
    bits: int = 16,
    block: int | None = None,
    speed: int | None = None,
    order: str = "<",
    extra: bytes = b"",
) -> bytes:
    right = channels * bits // 8
    block, speed = right if block is None else block, RATE * right if speed is None else speed
    return chunk(b"fmt ", struct.pack(f"{order}HHIIHH", tag, channels, RATE, speed, block, bits) + extra, order=order)


def wav(*chunks: bytes, name: bytes = b"RIFF", size: int | None = None, order: str = "<") -> bytes:
    body = b"WAVE" + b"".join(chunks)
    return name + struct.pack(f"{order}I", len(body) if size is None else size) + body


def ds64(size: int) -> bytes:
    return chunk(b"ds64", struct.pack("<QQQI", min(size + 72, 2**64 - 1), size, len(VALUES), 0))


def check_is_read(path: Path, content: bytes, expected: Any = EXPECTED) -> None:
    """Check that every reader returns the samples without a warning."""
    path.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for read in READERS:
            np.testing.assert_array_equal(read(path)[0], expected)


UNKNOWN = [
    0x7FFFF000,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFE,
    0xFFFFFFFF,
    0xFFFFFFFF - 36,
    0x7FFFF000 - 36,
    0x7FFFFFFF - 44,
]
UNKNOWN += [0x80000000 + 36, 0x7FFFFF00, 0xFFFFFFFF - 8, 0xFFFFFF00, 0xFFFF0000, 0]


@pytest.mark.parametrize("size", UNKNOWN, ids=hex)
@pytest.mark.parametrize("whole", [0, 36, 0x7FFFF024, 0xFFFFFFFF, None])
def test_sizes_of_programs_that_write_into_a_pipe(tmp_path: Path, size: int, whole: int | None) -> None:
    check_is_read(tmp_path / "a.wav", wav(fmt(), chunk(b"data", DATA, size), size=whole))
    check_is_read(tmp_path / "a.wav", wav(fmt(), chunk(b"LIST", LIST), chunk(b"data", DATA, size), size=whole))


@pytest.mark.parametrize("extra", [1, 2, 8, 16, 36, 44, 100, 128])
def test_a_size_that_is_a_few_bytes_too_long(tmp_path: Path, extra: int) -> None:
    check_is_read(tmp_path / "a.wav", wav(fmt(), chunk(b"data", DATA, len(DATA) + extra)))
    check_is_read(tmp_path / "a.wav", wav(fmt(), chunk(b"data", DATA[:4], 4 + extra)), EXPECTED[:2])


@pytest.mark.parametrize("less", [0, 8])
def test_a_size_that_counts_a_long_header_in(tmp_path: Path, less: int) -> None:
    begin = len(wav(fmt(), chunk(b"bext", bytes(602)), chunk(b"data", b"")))
    content = wav(fmt(), chunk(b"bext", bytes(602)), chunk(b"data", DATA, len(DATA) + begin - less))
    check_is_read(tmp_path / "a.wav", content)


@pytest.mark.parametrize("whole", [0, 1, 36, 2000, 0x7FFFFFFF, 0xFFFFFFFF])
def test_the_size_of_the_file_is_ignored(tmp_path: Path, whole: int) -> None:
    check_is_read(tmp_path / "a.wav", wav(fmt(), chunk(b"data", DATA), size=whole))


@pytest.mark.parametrize("size", [100_000_000, 2000 * 10**6, 0x40000000, 0x60000000, 0x90000000, 0xF0000000])
def test_an_implausible_size_gives_a_warning(tmp_path: Path, size: int) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(wav(fmt(), chunk(b"data", DATA, size)))
    for read in READERS:
        message = rf"path: '.*a\.wav': expected {size} bytes of audio, .* got 2000: {size - 2000} bytes are missing"
        with pytest.warns(UserWarning, match=message) as caught:
            samples = read(path)[0]
        np.testing.assert_array_equal(samples, EXPECTED)
        assert len(caught) == 1 and (read not in READERS[:2] or caught[0].filename == __file__)


@pytest.mark.parametrize("size", [len(DATA) + 129, 4000, 100_000, 99_999_999])
def test_a_file_that_was_cut_short_is_refused(tmp_path: Path, size: int) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(wav(fmt(), chunk(b"data", DATA, size)))
    for read in READERS:
        with pytest.raises(
            InputError, match=rf"got 2000: the file is truncated, {size - 2000} bytes are missing; 'ffm"
        ):
            read(path)


@pytest.mark.filterwarnings("ignore:path")
@pytest.mark.parametrize("size", [1, 16, 2000, 0x7FFFF000, 0xFFFFFFFF, 10**9])
def test_a_header_without_audio_is_refused(tmp_path: Path, size: int) -> None:
    (tmp_path / "a.wav").write_bytes(wav(fmt(), chunk(b"data", b"", size)))
    with pytest.raises(InputError, match="truncated"):
        read_audio(tmp_path / "a.wav")
    (tmp_path / "a.wav").write_bytes(wav(fmt(), chunk(b"data", b"\1", size, pad=b"")))
    with pytest.raises(InputError, match=r"expected at least one frame of 2 bytes, got 1 bytes|truncated"):
        read_audio(tmp_path / "a.wav")


@pytest.mark.parametrize(
    "behind",
    [
        b"",
        chunk(b"LIST", LIST),
        chunk(b"LIST", LIST, pad=b""),
        chunk(b"LIST", LIST) + chunk(b"id3 ", b"abc"),
        chunk(b"LIST", LIST, pad=b"") + chunk(b"id3 ", b"abc", pad=b""),
    ],
    ids=range(5),
)
def test_an_empty_file_stays_empty(tmp_path: Path, behind: bytes) -> None:
    check_is_read(tmp_path / "a.wav", wav(fmt(), chunk(b"data", b""), behind), EXPECTED[:0])
    check_is_read(tmp_path / "a.wav", wav(fmt(), chunk(b"data", DATA), behind))


def test_an_empty_chunk_before_that_of_the_audio(tmp_path: Path) -> None:
    check_is_read(tmp_path / "a.wav", wav(fmt(), chunk(b"data", b""), chunk(b"data", DATA)), EXPECTED)


def test_more_than_an_unknown_size_is_read_to_the_end() -> None:
    from engine.audio import riff

    rest = np.zeros(2**31 + 10**6, np.uint8).data  # pages of zeros that are never written
    for size in (0x7FFFF000, 0x7FFFFFFF, 2**31):
        assert riff._audio_length(size, rest, 44, "<") == (len(rest), "")
    assert riff._audio_length(2**31 - 2**20, rest, 44, "<") == (2**31 - 2**20, "")


@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("bits", [16, 24, 32])
def test_a_partial_frame_at_the_end_is_dropped(tmp_path: Path, channels: int, bits: int) -> None:
    block = channels * bits // 8
    values = np.random.default_rng(0).integers(0, 256, 7 * block + block - 1, dtype=np.uint8).tobytes()
    for size in (len(values), 0xFFFFFFFF, 0):
        (tmp_path / "a.wav").write_bytes(wav(fmt(channels=channels, bits=bits), chunk(b"data", values, size, pad=b"")))
        assert read_channels(tmp_path / "a.wav")[0].shape == (7, channels)


@pytest.mark.parametrize("name", [b"RF64", b"BW64"])
@pytest.mark.parametrize("size", [len(DATA), len(DATA) + 40, 0, 2**32 - 1, 2**63 - 1, 2**64 - 1])
def test_sizes_of_64_bits(tmp_path: Path, name: bytes, size: int) -> None:
    data = chunk(b"data", DATA, 0xFFFFFFFF)
    whole = 0xFFFFFFFF
    check_is_read(tmp_path / "a.wav", wav(ds64(size), fmt(), data, name=name, size=whole))
    check_is_read(tmp_path / "a.wav", wav(ds64(size), fmt(), chunk(b"data", DATA), name=name, size=whole))
    check_is_read(tmp_path / "a.wav", wav(chunk(b"JUNK", bytes(28)), fmt(), data, name=name, size=whole))
    if size == len(DATA):
        check_is_read(tmp_path / "a.wav", wav(ds64(size), fmt(), data, chunk(b"LIST", LIST), name=name, size=whole))


def test_a_long_file_that_was_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(wav(ds64(6 * 10**9), fmt(), chunk(b"data", DATA, 0xFFFFFFFF), name=b"RF64", size=0xFFFFFFFF))
    with pytest.warns(UserWarning, match="expected 6000000000 bytes of audio, .* 5999998000 bytes are missing"):
        assert len(read_audio(path)[0]) == 1000
    path.write_bytes(wav(ds64(6000), fmt(), chunk(b"data", DATA, 0xFFFFFFFF), name=b"RF64", size=0xFFFFFFFF))
    with pytest.raises(InputError, match="expected 6000 bytes of audio, got 2000: the file is truncated"):
        read_audio(path)


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"])
@pytest.mark.parametrize("container", ["RF64", "WAV", "WAVEX", "RIFX"])
def test_containers_of_libsndfile(tmp_path: Path, container: str, subtype: str) -> None:
    soundfile = pytest.importorskip("soundfile")
    source = np.random.default_rng(0).uniform(-1, 1, (999, 2)).astype(np.float32)
    endian = {"endian": "BIG"} if container == "RIFX" else {}
    form = "WAV" if endian else container
    soundfile.write(tmp_path / "a.wav", source, RATE, format=form, subtype=subtype, **endian)
    assert (tmp_path / "a.wav").read_bytes()[:4] == (container if container in ("RF64", "RIFX") else "RIFF").encode()
    expected, _ = soundfile.read(tmp_path / "a.wav", dtype="float32")
    np.testing.assert_array_equal(read_channels(tmp_path / "a.wav")[0], expected)


@pytest.mark.parametrize(
    ("block", "speed"), [(0, None), (0, 0), (1, None), (1, RATE), (3, None), (4, None), (16, RATE * 16), (65535, 0)]
)
def test_a_wrong_block_size(tmp_path: Path, block: int, speed: int | None) -> None:
    check_is_read(tmp_path / "a.wav", wav(fmt(block=block, speed=speed), chunk(b"data", DATA)))


@pytest.mark.parametrize(("bits", "block"), [(24, 4), (16, 4), (16, 8), (8, 2)])
def test_a_header_that_states_wider_samples_twice(tmp_path: Path, bits: int, block: int) -> None:
    content = wav(fmt(bits=bits, block=block, speed=RATE * block), chunk(b"data", DATA))
    (tmp_path / "a.wav").write_bytes(content)
    with pytest.raises(InputError, match=f"consistent fmt chunk, got blocks of {block} bytes for 1 x {bits} bits"):
        read_audio(tmp_path / "a.wav")


@pytest.mark.parametrize("size", range(1, 40, 2))
def test_an_odd_chunk_without_its_padding(tmp_path: Path, size: int) -> None:
    random = np.random.default_rng(size)
    body = random.integers(0, 256, size, dtype=np.uint8).tobytes()
    for name in (b"LIST", b"bext", b"xyz "):
        before, behind = chunk(name, body, pad=b""), chunk(b"data", DATA)
        check_is_read(tmp_path / "a.wav", wav(fmt(), before, behind))
        check_is_read(tmp_path / "a.wav", wav(before, fmt(), behind))
        check_is_read(tmp_path / "a.wav", wav(before, fmt(), before, chunk(b"wxyz", body, pad=b""), behind))


@pytest.mark.parametrize("pad", [b"\0", b" ", b"x", b"\xff"])
def test_an_odd_chunk_with_any_padding(tmp_path: Path, pad: bytes) -> None:
    before = chunk(b"LIST", LIST, pad=pad)
    check_is_read(tmp_path / "a.wav", wav(before, fmt(), before, chunk(b"data", DATA), before))


@pytest.mark.parametrize("junk", [b"\1" * 61, b"\0", b"\0" * 7, b"TAG" + bytes(125), chunk(b"LIST", LIST, pad=b"")])
def test_bytes_behind_the_audio(tmp_path: Path, junk: bytes) -> None:
    check_is_read(tmp_path / "a.wav", wav(fmt(), chunk(b"data", DATA)) + junk)


@pytest.mark.parametrize("size", [len(DATA), 0, 0x7FFFF000, 0xFFFFFFFF, len(DATA) + 16])
@pytest.mark.parametrize("tag", [6, 7])
def test_compressed_audio_with_the_same_faults(tmp_path: Path, tag: int, size: int) -> None:
    soundfile = pytest.importorskip("soundfile")
    path = tmp_path / "a.wav"
    soundfile.write(path, EXPECTED, RATE, format="WAV", subtype={6: "ALAW", 7: "ULAW"}[tag])
    expected, _ = soundfile.read(path, dtype="float32")
    audio = path.read_bytes()[-1000:]
    size = size - len(DATA) + len(audio) if size >= len(DATA) and size < 10**6 else size
    fact = chunk(b"fact", struct.pack("<I", 0xFFFFFFFF if size != len(audio) else len(audio)))
    path.write_bytes(wav(fmt(tag, bits=8), chunk(b"LIST", LIST, pad=b""), fact, chunk(b"data", audio, size)))
    np.testing.assert_array_equal(read_audio(path)[0], expected)
    path.write_bytes(wav(fmt(tag, bits=8), fact, chunk(b"data", audio, 3000)))
    with pytest.raises(InputError, match="truncated, 2000 bytes are missing"):
        read_audio(path)


def test_wave64_through_soundfile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    soundfile = pytest.importorskip("soundfile")
    soundfile.write(tmp_path / "a.wav", EXPECTED, RATE, format="W64", subtype="PCM_16")
    np.testing.assert_array_equal(read_audio(tmp_path / "a.wav")[0], EXPECTED)
    monkeypatch.setitem(sys.modules, "soundfile", None)
    with pytest.raises(UnavailableError, match="reading Wave64 needs soundfile"):
        read_audio(tmp_path / "a.wav")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"RIFF\0\0\0\0AVI ", "expected a RIFF WAV file, got b'RIFF' with b'AVI '"),
        (wav(chunk(b"LIST", LIST, 10**6), fmt(), chunk(b"data", DATA)), "expected 1000000 bytes in chunk b'LIST'"),
        (wav(chunk(b"data", DATA), fmt()), "expected a fmt and a data chunk"),
        (wav(fmt(bits=20), chunk(b"data", DATA)), "got 20"),
    ],
)
def test_faults_that_are_named(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.wav").write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_wav(tmp_path / "a.wav")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("riff") / "a.wav"


FORMS = [(1, 8), (1, 16), (1, 24), (1, 32), (3, 32), (3, 64)]
CHUNKS = st.lists(st.tuples(st.sampled_from([b"LIST", b"JUNK", b"bext", b"cue "]), st.binary(max_size=9)), max_size=3)


@settings(deadline=None)
@given(
    form=st.sampled_from(FORMS),
    channels=st.integers(1, 3),
    frames=st.integers(1, 50),
    order=st.sampled_from("<>"),
    extensible=st.booleans(),
    block=st.sampled_from([None, 0]),
    size=st.sampled_from(["right", "longer", *UNKNOWN]),
    before=CHUNKS,
    behind=CHUNKS,
    pad=st.sampled_from([b"", b"\0"]),
)
def test_any_format_with_any_fault(
    file: Path,
    form: tuple[int, int],
    channels: int,
    frames: int,
    order: str,
    extensible: bool,
    block: int | None,
    size: str | int,
    before: list[tuple[bytes, bytes]],
    behind: list[tuple[bytes, bytes]],
    pad: bytes,
) -> None:
    tag, bits = form
    values = np.random.default_rng(frames).uniform(-0.9, 0.9, (frames, channels))
    if tag == 3:
        raw, expected = values.astype(f"{order}f{bits // 8}").tobytes(), values.astype(np.float32)
    else:
        whole = np.rint(values * 2 ** (bits - 1)).astype(np.int64)
        expected = (whole / 2 ** (bits - 1)).astype(np.float32)
        words = (whole + (128 if bits == 8 else 0)).astype(f"{order}i8").reshape(-1, 1).view(np.uint8)
        raw = (words[:, : bits // 8] if order == "<" else words[:, 8 - bits // 8 :]).tobytes()
    extra = struct.pack(f"{order}HHIH", 22, bits, 0, tag) + bytes(14) if extensible else b""
    header = fmt(0xFFFE if extensible else tag, channels, bits, block, order=order, extra=extra)
    stated = {"right": len(raw), "longer": len(raw) + 77}.get(str(size), size)
    chunks = [chunk(name, body, pad=pad, order=order) for name, body in before]
    # Behind a size that is not right, nothing tells chunks from audio.
    chunks_behind = [chunk(name, body, order=order) for name, body in behind] if size == "right" else []
    data = chunk(b"data", raw, int(stated), pad=b"\0" if size == "right" else b"", order=order)
    name = b"RIFX" if order == ">" else b"RIFF"
    file.write_bytes(wav(*chunks, header, *chunks, data, *chunks_behind, name=name, order=order))
    samples, rate = read_channels(file)
    assert rate == RATE
    np.testing.assert_array_equal(samples, expected)


SOUND = [
    wav(chunk(b"LIST", LIST), fmt(), chunk(b"data", DATA[:60]), chunk(b"LIST", LIST)),
    wav(fmt(), chunk(b"data", DATA[:60], 0xFFFFFFFF), size=0xFFFFFFFF),
    wav(ds64(60), fmt(), chunk(b"data", DATA[:60], 0xFFFFFFFF), name=b"RF64", size=0xFFFFFFFF),
    wav(fmt(order=">"), chunk(b"data", DATA[:60], order=">"), name=b"RIFX", order=">"),
    wav(fmt(0xFFFE, extra=struct.pack("<HHIH", 22, 16, 0, 1) + bytes(14)), chunk(b"data", DATA[:60])),
    wav(chunk(b"fmt ", struct.pack("<HHIIHH", 1, 1, RATE, 0, 0, 16)), chunk(b"data", DATA[:60], 0)),
]
NUMBERS = st.sampled_from([0, 1, 2, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 37, 2**32 - 1, 10**8, 61, 188, 189])


@settings(deadline=None, max_examples=300)
@given(
    sound=st.sampled_from(SOUND),
    numbers=st.lists(st.tuples(st.integers(0, 120), NUMBERS), max_size=3),
    letters=st.lists(st.tuples(st.integers(0, 150), st.integers(0, 255)), max_size=3),
    cut=st.integers(0, 150),
)
def test_damaged_headers_give_samples_or_a_message(
    file: Path, sound: bytes, numbers: list[tuple[int, int]], letters: list[tuple[int, int]], cut: int
) -> None:
    content = bytearray(sound)
    for position, number in numbers:
        content[position : position + 4] = struct.pack("<I", number)
    for position, letter in letters:
        content[position : position + 1] = bytes([letter])
    file.write_bytes(content[: len(content) - cut] if cut < 100 else content)
    tracemalloc.start()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            samples, _ = read_channels(file)
        assert samples.dtype == np.float32 and samples.size <= len(content)
    except (InputError, UnavailableError) as error:
        assert "\n" not in str(error) and len(str(error)) < 400
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 10**7


@pytest.mark.parametrize("sound", SOUND, ids=range(len(SOUND)))
def test_every_prefix_gives_a_prefix_or_a_message(tmp_path: Path, sound: bytes) -> None:
    (tmp_path / "a.wav").write_bytes(sound)
    expected, _ = read_wav(tmp_path / "a.wav")
    for cut in range(len(sound)):
        (tmp_path / "a.wav").write_bytes(sound[:cut])
        try:
            samples, _ = read_wav(tmp_path / "a.wav")
        except InputError:
            continue
        np.testing.assert_array_equal(samples, expected[: len(samples)])


def test_written_files_keep_their_bytes_when_they_are_read(tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", EXPECTED, RATE)
    check_is_read(tmp_path / "a.wav", (tmp_path / "a.wav").read_bytes())
