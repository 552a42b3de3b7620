"""16-bit audio, as it is written: whole, or chunk by chunk while it is made."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from engine.errors import InputError
from engine.output_files import replacing

PCM = 1
MAX_DATA = 2**32 - 1 - 36  # bytes: the RIFF header counts in 32 bits


def pcm16(samples: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.int16]:
    """round(32768 * clip(samples, -1, 1)), at most 32767, little-endian."""
    quantised: npt.NDArray[np.int16] = np.minimum(np.rint(np.clip(samples, -1.0, 1.0) * 32768.0), 32767.0).astype("<i2")
    return quantised


@contextmanager
def writing_wav(path: str | os.PathLike[str], sample_rate: int) -> Iterator[Callable[[Any], None]]:
    """A function that appends samples [n] to a 16-bit mono WAV file, which appears when the block ends.

    The file is written beside its name and takes it when it is complete (`engine.output_files.replacing`); on any exception
    nothing is left behind. Memory does not grow with its length.

    Raises:
        InputError: more samples than a WAV file can hold.
        OSError: the file cannot be written.
    """
    size = 0
    with replacing(path) as file:
        file.write(_header(0, sample_rate))

        def write(samples: Any) -> None:
            nonlocal size
            size += 2 * len(samples)
            if size > MAX_DATA:
                raise InputError(f"audio: expected at most {MAX_DATA // 2} samples (a WAV file's limit), got more")
            file.write(pcm16(samples).tobytes())

        yield write
        file.seek(0)
        file.write(_header(size, sample_rate))


@contextmanager
def writing_pcm(file: BinaryIO) -> Iterator[Callable[[Any], None]]:
    """A function that writes samples [n] to a pipe as 16-bit little-endian numbers, at once."""

    def write(samples: Any) -> None:
        file.write(pcm16(samples).tobytes())
        file.flush()

    yield write


def _header(size: int, rate: int) -> bytes:
    fmt = struct.pack("<HHIIHH", PCM, 1, rate, rate * 2, 2, 16)
    return struct.pack("<4sI4s4sI16s4sI", b"RIFF", 36 + size, b"WAVE", b"fmt ", 16, fmt, b"data", size)
