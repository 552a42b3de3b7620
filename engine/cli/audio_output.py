"""The audio file of a command: WAV, FLAC or Ogg by its suffix."""

from __future__ import annotations

from pathlib import Path

from engine.bulk.formats import AUDIO_FORMATS, check_format, write_result
from engine.checks.arrays import FloatArray
from engine.checks.installation import how_to_install
from engine.checks.output_files import check_output
from engine.errors import UnavailableError

AUDIO_SUFFIXES = tuple(f".{name}" for name in AUDIO_FORMATS)


def check_audio_output(path: Path, source: Path | None = None) -> None:
    """Check before the work that audio can be written; see `check_output`.

    Args:
        path: the file to write.
        source: the input file, if there is one.

    Raises:
        InputError: the suffix is of no format, or no file can be created there.
        UnavailableError: the format needs soundfile, which is not installed.
    """
    check_output(path, AUDIO_SUFFIXES, source)
    try:
        check_format(path.suffix[1:].lower())
    except UnavailableError:
        remedy = f"{how_to_install('audio')}, or choose a name that ends in .wav"
        raise UnavailableError(f"-o: a {path.suffix} file needs soundfile; {remedy}") from None


def write_audio(path: Path, audio: FloatArray, rate: int) -> None:
    """Write audio in the format of the suffix.

    Args:
        path: the file.
        audio: [n] in [-1, 1].
        rate: in Hz.
    """
    write_result(path, path.suffix[1:].lower(), audio, rate)
