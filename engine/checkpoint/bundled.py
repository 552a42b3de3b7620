"""Checkpoints by name, path, folder or content: what `engine.load` accepts, and the networks of the package."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from pickle import PicklingError
from typing import Any, BinaryIO, TypeAlias

from engine.checkpoint.source import Source, open_source
from engine.checks.open_files import content_of_file
from engine.errors import CheckpointError, InputError

ASSETS = Path(__file__).parents[1] / "assets"
BUNDLED = ASSETS / "voice.safetensors"
# A vocoder; spoken digits selected by label; unconditional spoken digits.
NAMES = ("voice", "digits", "digits-unconditional")
# The name of a bundled network, a checkpoint file, its folder, or its content as bytes or as an open binary file.
Model: TypeAlias = "str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO"

SUFFIXES = (".safetensors", ".pt", ".pth", ".ckpt", ".pkl", ".bin")
# The names under which trainers leave the checkpoint to use in their folder, in the order of preference.
_USUAL_NAMES = (
    *("weights.pt", "model.safetensors", "voice.safetensors", "diffwave.ckpt", "last.ckpt"),
    "pytorch_model.bin",
)
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")  # Path("https://x") has one slash
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@[\w.-]+)?")
_MAX_PATH = 4096  # bytes


class Reloadable:
    """An object that is pickled as the call that loaded it, so that another process loads it anew.

    Attributes:
        origin: the call, as (function, arguments); None for an object that was built from arrays.
    """

    origin: tuple[Callable[..., Any], tuple[Any, ...]] | None = None

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        if self.origin is None:
            raise PicklingError("voice: expected one from engine.load, got one of arrays; load it in the other process")
        return self.origin


def path_of(model: str | os.PathLike[str] | bytes | None = None) -> Path:
    """Return the checkpoint file of a model.

    A string in `NAMES` always selects the bundled network, even if the working directory has a file of that name.
    "./digits" and Path("digits") are files. In a folder, `find_checkpoint` finds the file. "~" is the home folder.

    Args:
        model: a path, or the name of a bundled network; None for the bundled voice.

    Raises:
        CheckpointError: this installation lacks the bundled network, the model is a URL or an id of a hub, a folder has
            no checkpoint or several, or a bare word is neither a name nor a file.
    """
    if model is None:
        return BUNDLED
    if isinstance(model, str) and model in NAMES:
        path = ASSETS / f"{model}.safetensors"
        if not path.is_file():
            raise CheckpointError(f"model: this installation lacks the bundled network {model!r}, expected {path}")
        return path
    text = os.fsdecode(model)
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


def find_checkpoint(folder: Path) -> Path:
    """Return the checkpoint in a folder, as trainers leave it.

    A file of a usual name ("weights.pt", "model.safetensors", "diffwave.ckpt") comes first. Otherwise there is one file
    with the suffix of a checkpoint, or a series whose names differ by the number of the step; the largest is the last.

    Args:
        folder: an existing folder.

    Raises:
        CheckpointError: the folder has no checkpoint, or several.
    """
    try:
        names = sorted(name for name in os.listdir(folder) if not name.startswith("."))
    except OSError as error:
        raise CheckpointError(f"{folder}: expected a folder with a checkpoint, got: {error.strerror}") from None
    files = [name for name in names if name.endswith(SUFFIXES) and (folder / name).is_file()]
    for name in _USUAL_NAMES:
        if name in files:
            return folder / name
    numbers = [re.split(r"(\d+)", name) for name in files]
    series = {tuple(part for part in parts if not part.isdecimal()) for parts in numbers}
    if not files or (len(files) > 1 and (len(series) > 1 or len(numbers[0]) < 3)):
        listed = ", ".join(f"{name!r:.60}" for name in (files or names)[:4]) or "an empty one"
        remedy = "; pass one of its files" if files else ""
        raise CheckpointError(f"{folder}: expected a folder with one checkpoint or weights.pt, got {listed}{remedy}")
    return folder / max(files, key=lambda name: [int(number) for number in re.findall(r"\d+", name)])


def _refuse_remote(text: str) -> None:
    """Refuse an address in place of a path, with the remedy."""
    remedy = "download the checkpoint first and pass its path"
    if _URL.match(text) and not os.path.exists(text):
        raise CheckpointError(f"model: expected a file, got the address {text!r:.80}; {remedy}")
    parent = os.path.dirname(text)
    if _HUB_ID.fullmatch(text) and not text.endswith(SUFFIXES) and not os.path.exists(parent):
        raise CheckpointError(
            f"model: expected a file, got {text!r:.80}, which is neither a file nor a folder; if it is the id of a "
            f"repository on a hub, {remedy}, for example with 'hf download {text:.60}'"
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
