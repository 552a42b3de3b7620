"""Audio files and resampling.

WAV files are read and written with NumPy alone. FLAC, Ogg, MP3, AIFF and resampling need the extra `audio`.
"""

from __future__ import annotations

import io
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from engine.audio.pcm import MAX_DATA, PCM, Samples, writing_wav
from engine.checks.arguments import check_sample_rate
from engine.checks.arrays import FloatArray, to_numpy
from engine.errors import InputError, UnavailableError

if TYPE_CHECKING:
    import torch

FLOAT, EXTENSIBLE = 3, 0xFFFE
BITS = {PCM: (8, 16, 24, 32), FLOAT: (32, 64)}
FORMATS = {  # names of WAV format tags that soundfile reads, for messages
    2: "Microsoft ADPCM",
    6: "A-law",
    7: "mu-law",
    17: "IMA ADPCM",
    49: "GSM",
    85: "MP3",
}
SIGNATURES = {b"fLaC": "FLAC", b"OggS": "Ogg", b"FORM": "AIFF", b"ID3": "MP3"}  # formats that soundfile reads
UNKNOWN_SIZE = 0xFFFFFFFF  # the size in the header of a WAV file that was written into a pipe
MAX_COUNT = 2**63 - 1  # libsndfile's number of samples for a stream of unknown length
BLOCK = 2**20  # samples per read: a header may claim any length, memory grows with the samples that exist


def read_audio(path: str | os.PathLike[str], *, mix: bool = False) -> tuple[FloatArray, int]:
    """Read a recording of one channel.

    WAV files are always readable; FLAC, Ogg, MP3 and AIFF need the extra `audio`. The content decides the format, not
    the suffix.

    Args:
        path: the file.
        mix: average several channels into one. Otherwise several channels raise an error, because the mean of two
            microphones, or of a voice and its echo, may not be intended.

    Returns:
        (float32 [n], sample rate in Hz). Integer formats lie in [-1, 1]. The values of float formats do not change.
        Decoded Ogg and MP3 may exceed 1 a little. n may be 0.

    Raises:
        InputError: the file is unreadable, not audio, damaged or truncated, or has several channels without `mix`.
        UnavailableError: the format needs soundfile, which is not installed.
    """
    samples, rate = read_channels(path)
    if samples.shape[1] != 1 and not mix:
        raise InputError(
            f"path: {os.fspath(path)!r}: expected one channel, got {samples.shape[1]}; extract one, or average them "
            "with mix=True"
        )
    return to_mono(samples), rate


def read_channels(path: str | os.PathLike[str]) -> tuple[FloatArray, int]:
    """Read a recording with all its channels.

    Args:
        path: the file.

    Returns:
        (float32 [n, channels], sample rate in Hz), otherwise as `read_audio`.

    Raises:
        InputError: the file is unreadable, not audio, damaged or truncated.
        UnavailableError: the format needs soundfile, which is not installed.
    """
    content = _content(path)
    try:
        if content[:4] == b"RIFF":
            header = _header(content)
            if header.tag in BITS:
                return _samples(header), header.rate
            return _read_with_soundfile(content, header.format)
        name = _encoding(content[:4])
        if name is not None:
            return _read_with_soundfile(content, name)
        raise InputError(f"expected WAV, FLAC, Ogg, MP3 or AIFF audio, got a file that starts with {content[:4]!r}")
    except (InputError, UnavailableError) as error:
        raise type(error)(f"path: {os.fspath(path)!r}: {error}") from None


def to_mono(samples: FloatArray) -> FloatArray:
    """Average all channels.

    Args:
        samples: float32 [n, channels].

    Returns:
        float32 [n].
    """
    if samples.shape[1] == 1:
        return samples[:, 0]
    mono: FloatArray = samples.mean(axis=1, dtype=np.float64).astype(np.float32)
    return mono


def is_encoded(path: Path) -> bool:
    """Return whether the content of a file is audio in another format than WAV; False if it cannot be read.

    Args:
        path: the file.
    """
    try:
        with open(path, "rb") as file:
            start = file.read(4)
    except OSError:
        return False
    return _encoding(start) is not None


def resample(audio: Samples | torch.Tensor, sample_rate: int, target: int) -> FloatArray:
    """Convert audio to another sample rate with soxr's high quality, a linear-phase low pass of 20 bits.

    Args:
        audio: [n], float32 or float64, NumPy or torch.
        sample_rate: the rate of the audio in Hz.
        target: the rate of the result in Hz.

    Returns:
        float32 [about n * target / sample_rate]; steep waves may exceed 1 a little.

    Raises:
        InputError: an argument has an impossible value.
        UnavailableError: the rates differ, and soxr (the extra `audio`) is not installed.
    """
    samples = to_numpy(audio, "audio", ("float32", "float64"))
    if samples.ndim != 1:
        raise InputError(f"audio: expected one channel of shape [n], got shape {samples.shape}")
    source, target = check_sample_rate(sample_rate), check_sample_rate(target)
    samples = samples.astype(np.float32, copy=False)
    if source == target:
        return samples
    try:
        import soxr
    except ImportError:
        raise UnavailableError(
            f"resampling from {source} to {target} Hz needs soxr: pip install soxr (the extra 'audio')"
        ) from None
    result: FloatArray = soxr.resample(samples, source, target)
    return result


def read_wav(path: str | os.PathLike[str]) -> tuple[FloatArray, int]:
    """Read a mono WAV file without any extra.

    The formats are PCM of 8, 16, 24 or 32 bits and float, plain or WAVE_FORMAT_EXTENSIBLE. A sample q of b bits becomes
    q / 2^(b-1), so the audio lies in [-1, 1]. The values of float formats do not change.

    Args:
        path: the file.

    Returns:
        (float32 [n], sample rate in Hz). n may be 0.

    Raises:
        InputError: the file is unreadable, not a WAV file, truncated or compressed, or has several channels.
    """
    # The standard library's `wave` reads extensible files, which are common for 24 bits, only from Python 3.12 on.
    content = _content(path)
    try:
        header = _header(content)
        if header.tag not in BITS:
            raise InputError(f"expected PCM or float, got {header.format}; convert it to 16-bit PCM")
        if header.channels != 1:
            raise InputError(f"expected one channel, got {header.channels}; extract or mix one first")
        return _samples(header)[:, 0], header.rate
    except InputError as error:
        raise InputError(f"path: {os.fspath(path)!r}: {error}") from None


def write_wav(path: str | os.PathLike[str], audio: Samples | torch.Tensor, sample_rate: int) -> None:
    """Write a 16-bit mono WAV file: q = round(32768 * clip(audio, -1, 1)), at most 32767.

    `read_wav` is the inverse. The file appears under its name only when it is complete
    (`engine.output_files.replacing`).

    Args:
        path: a regular file, or no file yet, in an existing directory.
        audio: [n], finite float32 or float64, NumPy or torch.
        sample_rate: in Hz.

    Raises:
        InputError: audio or sample_rate has an impossible value, or path cannot be written.
    """
    samples = to_numpy(audio, "audio", ("float32", "float64"))
    if samples.ndim != 1:
        raise InputError(f"audio: expected one channel of shape [n], got shape {samples.shape}")
    if samples.size * 2 > MAX_DATA:
        raise InputError(
            f"audio: expected at most {MAX_DATA // 2} samples (the limit of WAV files), got {samples.size}"
        )
    if not np.isfinite(samples).all():
        raise InputError("audio: expected finite values, got NaN or infinity")
    rate = check_sample_rate(sample_rate)
    try:
        with writing_wav(path, rate) as write:
            for begin in range(0, len(samples), BLOCK):
                write(samples[begin : begin + BLOCK])
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"path: {path!r:.300}: cannot write it: {_reason(error)}") from error


def _content(path: str | os.PathLike[str]) -> bytes:
    try:
        return Path(path).read_bytes()
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"path: {path!r:.300}: cannot read it: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)


def _encoding(start: bytes) -> str | None:
    """Return the name of the format of a file's first 4 bytes, None for a format that soundfile does not read."""
    if start[:1] == b"\xff" and len(start) == 4 and start[1] & 0xE6 == 0xE2:  # an MPEG frame of layer III
        return "MP3"
    return next((name for signature, name in SIGNATURES.items() if start.startswith(signature)), None)


def _read_with_soundfile(content: bytes, name: str) -> tuple[FloatArray, int]:
    try:
        import soundfile
    except (ImportError, OSError):  # OSError: libsndfile, which it wraps, is missing
        raise UnavailableError(f"reading {name} needs soundfile: pip install soundfile (the extra 'audio')") from None

    class Sequential(soundfile.SoundFile):  # type: ignore[misc]
        # A seekable file is sought after each block, which is inexact in MP3 and fails in a truncated FLAC.
        def seekable(self) -> bool:
            return False

    try:
        with Sequential(io.BytesIO(content)) as file:
            frames, blocks = max(1, BLOCK // file.channels), []
            while len(block := file.read(frames, dtype="float32", always_2d=True)):
                blocks.append(block)
            claimed, rate, channels = file.frames, int(file.samplerate), file.channels
    except (soundfile.SoundFileError, RuntimeError, ValueError) as error:
        raise InputError(f"expected a {name} file, got a damaged or truncated one: {error!s:.160}") from None
    samples = np.concatenate([np.zeros((0, channels), np.float32), *blocks])
    if len(samples) != claimed != MAX_COUNT:
        raise InputError(f"expected {claimed} samples, got {len(samples)}: the {name} file is truncated")
    return samples, rate


@dataclass(frozen=True)
class _Header:
    """The fmt chunk and the audio bytes of a WAV file."""

    tag: int
    channels: int
    rate: int
    block: int
    bits: int
    data: memoryview

    @property
    def format(self) -> str:
        return f"{FORMATS.get(self.tag, 'format')} ({self.tag:#06x})"


def _header(content: bytes) -> _Header:
    if content[:4] != b"RIFF" or content[8:12] != b"WAVE":
        raise InputError(f"expected a RIFF WAV file, got a file that starts with {content[:4]!r}")
    chunks = _chunks(content)
    if b"fmt " not in chunks or b"data" not in chunks:
        raise InputError("expected a fmt and a data chunk, got a truncated or damaged WAV file")
    fmt, data = chunks[b"fmt "], chunks[b"data"]
    if len(fmt) < 16:
        raise InputError(f"expected a fmt chunk of at least 16 bytes, got {len(fmt)}")
    tag, channels, rate, _, block, bits = struct.unpack_from("<HHIIHH", fmt)
    if tag == EXTENSIBLE and len(fmt) >= 40:
        (tag,) = struct.unpack_from("<H", fmt, 24)
    return _Header(tag, channels, rate, block, bits, data)


def _samples(header: _Header) -> FloatArray:
    """Decode the audio of a WAV file whose tag is PCM or FLOAT to float32 [n, channels]."""
    if header.bits not in BITS[header.tag]:
        *others, last = BITS[header.tag]
        expected = ", ".join(map(str, others)) + f" or {last}"
        raise InputError(f"expected {expected} bits per sample, got {header.bits}")
    if header.channels == 0:
        raise InputError("expected one channel, got 0")
    if header.block != header.channels * header.bits // 8 or header.rate == 0:
        sizes = f"blocks of {header.block} bytes for {header.channels} x {header.bits} bits at {header.rate} Hz"
        raise InputError(f"expected a consistent fmt chunk, got {sizes}")
    if len(header.data) % header.block:
        raise InputError(f"expected whole samples of {header.block} bytes, got {len(header.data)} bytes of audio")
    if header.tag == FLOAT:
        decoded = np.frombuffer(header.data, f"<f{header.bits // 8}")
        with np.errstate(over="ignore"):
            return decoded.astype(np.float32).reshape(-1, header.channels)
    return _decode(header.data, header.bits).reshape(-1, header.channels)


def _chunks(content: bytes) -> dict[bytes, memoryview]:
    """Return the first chunk of each name, up to and including the audio."""
    view, offset, chunks = memoryview(content), 12, dict[bytes, memoryview]()
    while offset + 8 <= len(content) and b"data" not in chunks:
        name, size = struct.unpack_from("<4sI", content, offset)
        offset += 8
        rest = len(content) - offset
        if name == b"data" and size == UNKNOWN_SIZE:
            size = rest
        if size > rest:
            raise InputError(f"expected {size} bytes in chunk {name!r}, got {rest}: the file is truncated")
        chunks.setdefault(name, view[offset : offset + size])
        offset += size + size % 2
    return chunks


def _decode(data: memoryview, bits: int) -> FloatArray:
    if bits == 8:  # the only unsigned format
        return (np.frombuffer(data, np.uint8).astype(np.float32) - np.float32(128)) / np.float32(128)
    if bits == 24:
        words = np.zeros((len(data) // 3, 4), np.uint8)
        words[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
        return words.view("<i4")[:, 0].astype(np.float32) / np.float32(2**31)
    return np.frombuffer(data, f"<i{bits // 8}").astype(np.float32) / np.float32(2 ** (bits - 1))
