"""Files of packed recordings: a small training set in one file, to carry to a machine that trains.

A safetensors file of float16 samples, which keep 11 bits of every value: an error about 70 dB below the sound.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors import safe_open
from safetensors.numpy import save

from engine.checks.arrays import FloatArray
from engine.checks.output_files import replacing
from engine.errors import InputError

HEADER_KEY = "recordings"
Half = npt.NDArray[np.float16]


@dataclass(frozen=True, eq=False)
class Packed:
    """Recordings of one sample rate.

    Attributes:
        rate: in Hz.
        recordings: the name of the file and the samples [L] of each.
    """

    rate: int
    recordings: Sequence[tuple[str, Half]]


def write_packed(path: Path, recordings: Sequence[tuple[str, FloatArray]], rate: int) -> int:
    """Write recordings in place of the file. Equal recordings give equal files.

    Args:
        path: the file to write.
        recordings: the name and the samples [L] of each.
        rate: of all, in Hz.

    Returns:
        The size of the file in bytes.
    """
    tensors = {f"{number:06d}": audio.astype(np.float16) for number, (_, audio) in enumerate(recordings)}
    header = json.dumps({"names": [name for name, _ in recordings], "sample_rate": rate})
    content = save(tensors, metadata={HEADER_KEY: header})  # several keys have no fixed order in the file
    with replacing(path) as file:
        file.write(content)
    return len(content)


def read_packed(path: Path) -> Packed:
    """Read a file that `write_packed` wrote.

    Raises:
        InputError: the file is another one, or damaged.
    """
    try:
        with safe_open(path, framework="np") as file:
            header = json.loads((file.metadata() or {})[HEADER_KEY])
            names, rate = header["names"], header["sample_rate"]
            samples = [file.get_tensor(f"{number:06d}") for number in range(len(names))]
        if not all(type(name) is str for name in names) or type(rate) is not int or rate < 1:
            raise ValueError("names and a sample rate that are none")
        if not all(audio.ndim == 1 and audio.dtype == np.float16 and np.isfinite(audio).all() for audio in samples):
            raise ValueError("samples that are not finite float16 values")
    except Exception as error:  # safetensors raises several kinds of exceptions
        raise InputError(f"data: {path}: expected a folder or packed recordings, got: {str(error)[:200]}") from None
    return Packed(rate, list(zip(names, samples, strict=True)))
