"""Writers of results: WAV, FLAC and Ogg audio, and mels. A file appears under its name only when it is complete."""

from __future__ import annotations

import io
import zlib
from pathlib import Path
from typing import Any

from engine.audio.mel_files import write_mel
from engine.audio.pcm import pcm16, writing_wav
from engine.checks.arrays import FloatArray
from engine.checks.installation import how_to_install
from engine.checks.output_files import replacing
from engine.errors import InputError, UnavailableError

AUDIO_FORMATS = ("wav", "flac", "ogg")
MEL_FORMAT = "npy"
SERIAL = b"diff"  # number of the logical stream in Ogg files
PAGE, SERIAL_AT, CHECKSUM_AT, COUNT_AT = b"OggS", 14, 22, 26
REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
BLOCK = 1 << 16  # samples


def check_format(name: str) -> None:
    """Check before the work that a format of audio can be written.

    Args:
        name: one of `AUDIO_FORMATS`.

    Raises:
        InputError: there is no such format.
        UnavailableError: it needs soundfile, which is not installed.
    """
    if name not in AUDIO_FORMATS:
        raise InputError(f"format: expected one of {', '.join(AUDIO_FORMATS)}, got {name!r:.80}")
    if name != "wav":
        _soundfile(name)


def write_result(path: Path, name: str, result: FloatArray, rate: int) -> None:
    """Write a result in a format.

    Args:
        path: the file, in an existing folder.
        name: one of `AUDIO_FORMATS`, or `MEL_FORMAT`.
        result: audio [n], or a mel [M, T].
        rate: of the audio in Hz.

    Raises:
        OSError: the file cannot be written.
    """
    if name == MEL_FORMAT:
        write_mel(path, result)
    elif name == "wav":
        with writing_wav(path, rate) as write:
            write(result)
    else:
        with replacing(path) as file:
            file.write(_encoded(result, rate, name))


def _encoded(audio: FloatArray, rate: int, name: str) -> bytes:
    """Return FLAC of the samples of a WAV file, or Ogg Vorbis."""
    soundfile, buffer = _soundfile(name), io.BytesIO()
    subtype = {"flac": "PCM_16", "ogg": "VORBIS"}[name]
    samples = pcm16(audio) if name == "flac" else audio
    with soundfile.SoundFile(buffer, "w", rate, 1, subtype, format=name.upper()) as file:
        for begin in range(0, len(samples), BLOCK):  # libsndfile's Vorbis encoder keeps a block on its stack
            file.write(samples[begin : begin + BLOCK])
    return _with_serial(buffer.getvalue()) if name == "ogg" else buffer.getvalue()


def _with_serial(content: bytes) -> bytes:
    """Return an Ogg file with a fixed number of its stream: libsndfile's is random, which would change the bytes."""
    pages, begin = bytearray(content), 0
    while content[begin : begin + 4] == PAGE:
        count = content[begin + COUNT_AT]
        lengths = content[begin + COUNT_AT + 1 : begin + COUNT_AT + 1 + count]
        end = begin + COUNT_AT + 1 + count + sum(lengths)
        pages[begin + SERIAL_AT : begin + SERIAL_AT + 4] = SERIAL
        pages[begin + CHECKSUM_AT : begin + CHECKSUM_AT + 4] = bytes(4)
        checksum = _checksum(bytes(pages[begin:end]))
        pages[begin + CHECKSUM_AT : begin + CHECKSUM_AT + 4] = checksum.to_bytes(4, "little")
        begin = end
    return bytes(pages)


def _checksum(page: bytes) -> int:
    """Return Ogg's CRC-32, which shifts to the left, by zlib's, which shifts to the right and inverts both ends."""
    right = zlib.crc32(page.translate(REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int.from_bytes(right.to_bytes(4, "little").translate(REVERSED), "big")


def _soundfile(name: str) -> Any:
    try:
        import soundfile
    except (ImportError, OSError):  # OSError: libsndfile, which it wraps, is missing
        raise UnavailableError(
            f"format: {name!r} needs soundfile; {how_to_install('audio')}, or use format='wav'"
        ) from None
    return soundfile
