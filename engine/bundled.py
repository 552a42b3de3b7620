"""Networks that come with the package, by name."""

from __future__ import annotations

import os
from pathlib import Path

from engine.errors import CheckpointError

ASSETS = Path(__file__).parent / "assets"
BUNDLED = ASSETS / "voice.safetensors"
# A vocoder; spoken digits selected by label; unconditional spoken digits.
NAMES = ("voice", "digits", "digits-unconditional")


def path_of(model: str | os.PathLike[str] | None = None) -> Path:
    """Return the checkpoint file of a model.

    A string in `NAMES` always selects the bundled network, even if the working directory has a file of that name.
    "./digits" and Path("digits") are files.

    Args:
        model: a path, or the name of a bundled network; None for the bundled voice.

    Raises:
        CheckpointError: this installation lacks the bundled network, or a bare word is neither a name nor a file.
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
