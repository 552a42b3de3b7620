"""Files that are mistaken for others: by their first bytes when read, and by their names when written."""

from __future__ import annotations

import os
from pathlib import PurePath
from types import MappingProxyType

START = 16  # bytes that identify a format

# The first bytes in lower case. No raw float32 frames of a mel begin with them.
_KINDS = MappingProxyType(
    {
        b"version https://": "a pointer of Git LFS; run 'git lfs pull'",
        b"<!doctype": "a web page; download the file itself, perhaps after signing in",
        b"<html": "a web page; download the file itself, perhaps after signing in",
        b"<?xml": "an XML file; download the file itself",
        b"entry not found": "the error message of a download; check its address",
        b"not found": "the error message of a download; check its address",
        b"bzh91ay&sy": "a bzip2 file; decompress it first",
        b"\xfd7zxz\x00": "an xz file; decompress it first",
        b"\x1f\x8b\x08\x00": "a gzip file; decompress it first",
        b"\x1f\x8b\x08\x08": "a gzip file; decompress it first",
        b"\x28\xb5\x2f\xfd": "a zstd file; decompress it first",
        b"7z\xbc\xaf\x27\x1c": "a 7z archive; extract it first",
        b"rar!\x1a\x07": "a RAR archive; extract it first",
    }
)

# Suffixes that promise a format. A temporary name, or one without a suffix, promises none.
_SUFFIXES = frozenset(
    {
        *(".wav", ".wave", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".m4a", ".mp4", ".aac", ".wma", ".aif", ".aiff"),
        *(".aifc", ".au", ".snd", ".caf", ".w64", ".pcm", ".raw"),
        *(".npy", ".npz", ".safetensors", ".pt", ".pth", ".ckpt", ".bin", ".onnx", ".pkl", ".pickle", ".h5"),
        *(".json", ".yaml", ".yml", ".txt", ".csv", ".zip"),
    }
)


def promised_format(path: str | os.PathLike[str], own: tuple[str, ...]) -> str | None:
    """Return the suffix of a file to be written if it promises another format, else None.

    Args:
        path: the file.
        own: the suffixes of the format, in lower case.
    """
    suffix = PurePath(os.fsdecode(path)).suffix.lower()
    return suffix if suffix in _SUFFIXES and suffix not in own else None


def mistaken_kind(start: bytes) -> str | None:
    """Return what a file is that no command of the engine reads, with the remedy; None if that is unknown.

    Args:
        start: the first `START` bytes.
    """
    lower = start.lower()
    return next((text for magic, text in _KINDS.items() if lower.startswith(magic)), None)
