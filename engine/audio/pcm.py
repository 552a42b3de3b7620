"""Writers of 16-bit PCM audio, chunk by chunk: WAV files and raw samples."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import BinaryIO, TypeAlias

import numpy as np
import numpy.typing as npt

from engine.checks.file_kinds import promised_format
from engine.checks.output_files import replacing
from engine.errors import InputError

PCM = 1
WAV_SUFFIXES = (".wav", ".wave")
MAX_DATA = 2**32 - 1 - 36  # bytes: the RIFF header counts in 32 bits

Samples: TypeAlias = npt.NDArray[np.float32 | np.float64]


def pcm16(samples: Samples) -> npt.NDArray[np.int16]:
    """Quantize samples to round(32768 * clip(samples, -1, 1)), at most 32767, little-endian.

    Args:
        samples: floats of any shape.

    Returns:
        int16 of the same shape.
    """
    quantized: npt.NDArray[np.int16] = np.minimum(np.rint(np.clip(samples, -1.0, 1.0) * 32768.0), 32767.0).astype("<i2")
    return quantized


@contextmanager
def writing_wav(path: str | os.PathLike[str], sample_rate: int) -> Iterator[Callable[[Samples], None]]:
    """Open a 16-bit mono WAV file and yield a function that appends samples [n] to it.

    The file appears under its name when the block ends (`engine.checks.output_files.replacing`). On any exception no
    file is left behind. Memory does not grow with the length of the file.

    Args:
        path: the WAV file.
        sample_rate: in Hz.

    Raises:
        InputError: the name is that of another format, or more samples than a WAV file can hold.
        OSError: the file cannot be written.
    """
    check_wav_name(path)
    size = 0
    with replacing(path) as file:
        file.write(wav_header(0, sample_rate))

        def write(samples: Samples) -> None:
            nonlocal size
            size += 2 * len(samples)
            if size > MAX_DATA:
                raise InputError(f"audio: expected at most {MAX_DATA // 2} samples (the limit of WAV files), got more")
            file.write(pcm16(samples).tobytes())

        yield write
        file.seek(0)
        file.write(wav_header(size, sample_rate))


def check_wav_name(path: str | os.PathLike[str]) -> None:
    """Check that the name of a file to be written promises no other format than WAV.

    Args:
        path: the file.

    Raises:
        InputError: it does.
    """
    if suffix := promised_format(path, WAV_SUFFIXES):
        remedy = "name it .wav"
        if suffix[1:] in ("flac", "ogg"):
            remedy += f", or let engine.vocode_files(format={suffix[1:]!r}) or 'engine vocode' write {suffix}"
        raise InputError(f"path: {os.fspath(path)!r:.300}: expected a name that ends in .wav, got {suffix}; {remedy}")


@contextmanager
def writing_pcm(file: BinaryIO) -> Iterator[Callable[[Samples], None]]:
    """Yield a function that writes samples [n] as 16-bit little-endian integers and flushes them at once.

    Args:
        file: a pipe or a file, open for writing.
    """

    def write(samples: Samples) -> None:
        file.write(pcm16(samples).tobytes())
        file.flush()

    yield write


def wav_header(size: int, rate: int) -> bytes:
    """Return the header of a 16-bit mono WAV file.

    Args:
        size: bytes of audio.
        rate: in Hz.
    """
    fmt = struct.pack("<HHIIHH", PCM, 1, rate, rate * 2, 2, 16)
    return struct.pack("<4sI4s4sI16s4sI", b"RIFF", 36 + size, b"WAVE", b"fmt ", 16, fmt, b"data", size)
