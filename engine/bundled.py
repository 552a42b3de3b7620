"""The networks that come with the package, by name."""

from __future__ import annotations

import os
from pathlib import Path

from engine.errors import CheckpointError

ASSETS = Path(__file__).parent / "assets"
BUNDLED = ASSETS / "voice.safetensors"
# A vocoder; spoken digits that can be asked for; spoken digits as they come.
NAMES = ("voice", "digits", "digits-unconditional")


def path_of(model: str | os.PathLike[str] | None = None) -> Path:
    """The file that is meant: a path, or the name of a bundled network; None for the bundled voice.

    A string that is one of `NAMES` is always that network, whatever lies in the working directory; "./digits" and
    Path("digits") are files.

    Raises:
        CheckpointError: the bundled network is not in this installation, or a bare word is neither a name nor a file.
    """
    if model is None:
        return BUNDLED
    if not isinstance(model, str):
        return Path(model)
    if model in NAMES:
        path = ASSETS / f"{model}.safetensors"
        if not path.is_file():
            raise CheckpointError(f"model: this installation lacks the bundled network {model!r}, expected {path}")
        return path
    path = Path(model)
    if model == path.name and not path.suffix and not path.exists():
        names = ", ".join(map(repr, NAMES))
        raise CheckpointError(f"model: expected a file or one of {names}, got {model!r:.80}")
    return path
