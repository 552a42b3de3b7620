"""Checkpoints by name, path, folder, address or content, as `engine.load` accepts them, and the bundled networks."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import BinaryIO, TypeAlias

from engine.checkpoint import hub
from engine.checkpoint.folders import SUFFIXES, find_checkpoint
from engine.checkpoint.source import Source, open_source
from engine.checks.open_files import content_of_file
from engine.errors import CheckpointError, InputError

ASSETS = Path(__file__).parents[1] / "assets"
BUNDLED = ASSETS / "voice.safetensors"
# A vocoder; spoken digits selected by label; unconditional spoken digits.
NAMES = ("voice", "digits", "digits-unconditional")
# The name of a bundled network, a checkpoint file, its folder, an address "hf://owner/name" of the Hugging Face Hub, or
# the content as bytes or as an open binary file.
Model: TypeAlias = "str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO"

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")  # Path("https://x") has one slash
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@[\w.-]+)?")
_MAX_PATH = 4096  # bytes


def path_of(model: str | os.PathLike[str] | bytes | None = None) -> Path:
    """Return the checkpoint file of a model.

    A string in `NAMES` always selects the bundled network, even if the working directory has a file of that name.
    "./digits" and Path("digits") are files. In a folder, `find_checkpoint` finds the file. "~" is the home folder.
    The file of an address "hf://owner/name[@revision][/file]" is downloaded into the cache of the Hugging Face Hub,
    with the settings beside it.

    Args:
        model: a path, an address, or the name of a bundled network; None for the bundled voice.

    Raises:
        CheckpointError: this installation lacks the bundled network, the model is a URL or an id without "hf://", the
            hub lacks the repository or the file, a folder has no checkpoint or several, or a bare word is neither a
            name nor a file.
        UnavailableError: the model is an address, and huggingface_hub is not installed.
    """
    if model is None:
        return BUNDLED
    if isinstance(model, str) and model in NAMES:
        path = ASSETS / f"{model}.safetensors"
        if not path.is_file():
            raise CheckpointError(f"model: this installation lacks the bundled network {model!r}, expected {path}")
        return path
    text = os.fsdecode(model)
    if hub.is_address(text):
        return hub.download(hub.parse_address(text))
    _refuse_remote(text)
    path = Path(os.path.expanduser(text))
    if isinstance(model, str) and model == path.name and not path.suffix and not _exists(path):
        names = ", ".join(map(repr, NAMES))
        raise CheckpointError(f"model: expected a file or one of {names}, got {model!r:.80}")
    return find_checkpoint(path) if _is_folder(path) else path


def source_of(model: Model | None) -> Source:
    """Return the content of a model.

    Args:
        model: see `Model`; None for the bundled voice. An open file is read from its position to its end.

    Raises:
        CheckpointError: see `path_of`, or there are no bytes.
        InputError: the model is of another type, or a file that cannot be read as bytes.
    """
    if isinstance(model, (bytearray, memoryview)):
        return open_source(bytes(model), "bytes")
    if isinstance(model, bytes) and _is_content(model):
        return open_source(model, "bytes")
    if model is None or isinstance(model, (str, bytes, os.PathLike)):
        return open_source(path_of(model))
    if callable(getattr(model, "read", None)):
        return _source_of_file(model)
    expected = "a path, the name of a bundled network, an open binary file or bytes"
    raise InputError(f"path: expected {expected}, got {type(model).__name__}")


def _refuse_remote(text: str) -> None:
    """Refuse an address in place of a path, with the remedy."""
    if _URL.match(text) and not os.path.exists(text):
        raise CheckpointError(
            f"model: expected a file, got the address {text!r:.80}; download the checkpoint first and pass its path"
        )
    parent = os.path.dirname(text)
    if _HUB_ID.fullmatch(text) and not text.endswith(SUFFIXES) and not os.path.exists(parent):
        raise CheckpointError(
            f"model: expected a file, got {text!r:.80}, which is neither a file nor a folder; if it is the id of a "
            f"repository on the Hugging Face Hub, pass 'hf://{text:.60}'"
        )


def _is_content(model: bytes) -> bool:
    """Return whether bytes are a checkpoint rather than a path, which ``bytes(path)`` gives."""
    return model[:4] == b"PK\x03\x04" or len(model) > _MAX_PATH or b"\0" in model or not model or model[0] >= 0x80


def _source_of_file(file: BinaryIO) -> Source:
    content, label = content_of_file(file)
    if not content:
        raise CheckpointError(f"{label}: expected a checkpoint, got no bytes; rewind it with seek(0)")
    source = open_source(content, label)
    folder = Path(label).parent if os.path.isfile(label) else None
    return Source(source.name, source.size, source.start, source.content, folder)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name that is too long, or has a null character: opening it will say so
        return False


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False
