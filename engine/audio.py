"""WAV files: mono PCM in, 16-bit mono PCM out, with NumPy only."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any

import numpy as np

from engine.arguments import check_sample_rate
from engine.arrays import FloatArray, to_numpy
from engine.errors import InputError
from engine.replace import replacing

PCM, EXTENSIBLE = 1, 0xFFFE
FORMATS = {
    2: "Microsoft ADPCM",
    3: "IEEE float",
    6: "A-law",
    7: "mu-law",
    17: "IMA ADPCM",
    49: "GSM",
    85: "MP3",
}
UNKNOWN_SIZE = 0xFFFFFFFF  # what a program writing into a pipe leaves in the header
MAX_DATA = 2**32 - 1 - 36  # bytes: the RIFF header counts in 32 bits


def read_wav(path: str | os.PathLike[str]) -> tuple[FloatArray, int]:
    """Read a mono PCM WAV file of 8, 16, 24 or 32 bits, plain or WAVE_FORMAT_EXTENSIBLE.

    A sample q of b bits becomes q / 2^(b-1), so the audio lies in [-1, 1]. Parsed here because the standard
    library's `wave` reads extensible files, common for 24 bits, only from Python 3.12 on.

    Returns:
        (float32 [n], sample rate in Hz). n may be 0.

    Raises:
        InputError: unreadable, not a WAV file, truncated, several channels, or not PCM (the format is named).
    """
    try:
        content = Path(path).read_bytes()
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"path: cannot read {path!r:.300}: {_reason(error)}") from error
    try:
        return _parse(content)
    except InputError as error:
        raise InputError(f"path: {os.fspath(path)!r}: {error}") from None


def write_wav(path: str | os.PathLike[str], audio: Any, sample_rate: int) -> None:
    """Write 16-bit mono PCM: q = round(32768 * clip(audio, -1, 1)), at most 32767. `read_wav` inverts it.

    The file appears under its name only when it is complete (`engine.replace.replacing`).

    Args:
        path: where to, a regular file or nothing yet, in an existing directory.
        audio: [n], finite float32 or float64, numpy or torch.
        sample_rate: in Hz.

    Raises:
        InputError: audio or sample_rate is impossible, or path cannot be written.
    """
    samples = to_numpy(audio, "audio", ("float32", "float64"))
    if samples.ndim != 1:
        raise InputError(f"audio: expected one channel of shape [n], got shape {samples.shape}")
    if samples.size * 2 > MAX_DATA:
        raise InputError(f"audio: expected at most {MAX_DATA // 2} samples (a WAV file's limit), got {samples.size}")
    if not np.isfinite(samples).all():
        raise InputError("audio: expected finite values, got NaN or infinity")
    rate = check_sample_rate(sample_rate)
    quantised = np.minimum(np.rint(np.clip(samples, -1.0, 1.0) * 32768.0), 32767.0).astype("<i2")
    size = quantised.nbytes
    fmt = struct.pack("<HHIIHH", PCM, 1, rate, rate * 2, 2, 16)
    header = struct.pack("<4sI4s4sI16s4sI", b"RIFF", 36 + size, b"WAVE", b"fmt ", 16, fmt, b"data", size)
    try:
        with replacing(path) as file:
            file.write(header)
            file.write(quantised.tobytes())
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"path: cannot write {path!r:.300}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)


def _parse(content: bytes) -> tuple[FloatArray, int]:
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
    if tag != PCM:
        raise InputError(
            f"expected integer PCM, got {FORMATS.get(tag, 'format')} ({tag:#06x}); convert it to 16-bit PCM"
        )
    if bits not in (8, 16, 24, 32):
        raise InputError(f"expected 8, 16, 24 or 32 bits per sample, got {bits}")
    if channels != 1:
        raise InputError(f"expected one channel, got {channels}; pick or mix one first")
    if block != bits // 8 or rate == 0:
        raise InputError(f"expected a consistent fmt chunk, got {block} bytes per {bits}-bit sample at {rate} Hz")
    if len(data) % block:
        raise InputError(f"expected whole samples of {block} bytes, got {len(data)} bytes of audio")
    return _decode(data, bits), rate


def _chunks(content: bytes) -> dict[bytes, memoryview]:
    """The first chunk of each name, up to and with the audio."""
    view, at, chunks = memoryview(content), 12, dict[bytes, memoryview]()
    while at + 8 <= len(content) and b"data" not in chunks:
        name, size = struct.unpack_from("<4sI", content, at)
        at += 8
        if name == b"data" and size == UNKNOWN_SIZE:
            size = len(content) - at
        if size > len(content) - at:
            raise InputError(f"expected {size} bytes in chunk {name!r}, got {len(content) - at}: the file is truncated")
        chunks.setdefault(name, view[at : at + size])
        at += size + size % 2
    return chunks


def _decode(data: memoryview, bits: int) -> FloatArray:
    if bits == 8:  # the only unsigned one
        return (np.frombuffer(data, np.uint8).astype(np.float32) - np.float32(128)) / np.float32(128)
    if bits == 24:
        words = np.zeros((len(data) // 3, 4), np.uint8)
        words[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
        return words.view("<i4")[:, 0].astype(np.float32) / np.float32(2**31)
    return np.frombuffer(data, f"<i{bits // 8}").astype(np.float32) / np.float32(2 ** (bits - 1))
