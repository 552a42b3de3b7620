"""One call for those who want a bundled network, or one network once: `engine.vocode`, `engine.generate`, ..."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from engine.bundled import NAMES
from engine.voice import Voice, load


@lru_cache(maxsize=len(NAMES))
def bundled(name: str = "voice") -> Voice:
    """A bundled network, loaded once."""
    return load(name)


def vocode(
    mel: Any,
    steps: int | str = 6,
    seed: int | Sequence[int] = 0,
    model: str | os.PathLike[str] = "voice",
    **options: Any,
) -> Any:
    """`Voice.vocode` of the bundled voice, which is loaded once, or of a file, which every call loads anew."""
    return _voice(model).vocode(mel, steps, seed, **options)


def generate(
    n: int = 1,
    label: Any = None,
    model: str | os.PathLike[str] = "digits",
    seed: int | Sequence[int] = 0,
    steps: int | str = "full",
    **options: Any,
) -> Any:
    """`Voice.generate` of a bundled network, which is loaded once, or of a file, which every call loads anew."""
    return _voice(model).generate(n, label, seed=seed, steps=steps, **options)


def denoise(audio: Any, t: int = 25, model: str | os.PathLike[str] = "digits-unconditional", **options: Any) -> Any:
    """`Voice.denoise` of a bundled network, which is loaded once, or of a file, which every call loads anew."""
    return _voice(model).denoise(audio, t, **options)


def interpolate(
    a: Any,
    b: Any,
    weight: float = 0.5,
    t: int = 50,
    model: str | os.PathLike[str] = "digits-unconditional",
    **options: Any,
) -> Any:
    """`Voice.interpolate` of a bundled network, which is loaded once, or of a file, which every call loads anew."""
    return _voice(model).interpolate(a, b, weight, t, **options)


def _voice(model: str | os.PathLike[str]) -> Voice:
    return bundled(model) if isinstance(model, str) and model in NAMES else load(model)
