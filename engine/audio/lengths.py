"""Lengths of recordings, from their headers alone."""

from __future__ import annotations

import mmap
import os
from typing import Any

from engine.audio import riff
from engine.audio.wav import encoding
from engine.checks.file_kinds import START
from engine.checks.open_files import reason_of
from engine.errors import InputError, UnavailableError


def count_samples(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Return the length of a recording from its header alone.

    Args:
        path: a file that `engine.audio.wav.read_channels` reads.

    Returns:
        (samples per channel, sample rate in Hz). The length of MP3 may be an estimate.

    Raises:
        InputError: the file is unreadable, not audio, damaged or truncated.
        UnavailableError: the format needs soundfile, which is not installed.
    """
    name = f"path: {os.fspath(path)!r}"
    try:
        with open(path, "rb") as file:
            content: Any = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)  # sliced as bytes are
            content = riff.without_tag(content)
            start = content[:START]
            if start[:4] in riff.SIGNATURES:
                wav = riff.parse(content)
                block = wav.channels * wav.bits // 8
                if wav.is_plain and block and wav.rate:
                    return len(wav.data) // block, wav.rate
    except InputError as error:
        raise InputError(f"{name}: {error}") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{name}: cannot read it: {reason_of(error, path)}") from error
    form = "WAV" if start[:4] in riff.SIGNATURES else encoding(start)
    if form is None:
        raise InputError(f"{name}: expected audio, got a file that starts with {start[:4]!r}")
    return _with_soundfile(path, name, form)


def _with_soundfile(path: str | os.PathLike[str], name: str, form: str) -> tuple[int, int]:
    try:
        import soundfile
    except (ImportError, OSError):  # OSError: libsndfile, which it wraps, is missing
        raise UnavailableError(
            f"{name}: reading {form} needs soundfile: pip install soundfile (the extra 'audio')"
        ) from None
    try:
        info = soundfile.info(os.fspath(path))
    except (soundfile.SoundFileError, RuntimeError) as error:
        raise InputError(f"{name}: expected a {form} file, got: {error!s:.160}") from None
    return int(info.frames), int(info.samplerate)
