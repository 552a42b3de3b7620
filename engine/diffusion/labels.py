"""Class labels as a caller gives them: which classes a label means, and which of those an item gets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from engine.diffusion.noise import philox4x32
from engine.errors import InputError

SHOWN = 12  # names in a message


def choose(classes: Sequence[str], label: Any, seeds: Sequence[int]) -> list[int | None]:
    """The class of every item: the one its label means, or one of them drawn from the item's seed.

    Args:
        classes: `Config.classes`.
        label: a number or a name, or a list of one per item: it means the class whose name is ``str(label)``, and where
            there is none, those whose first word it is. None means all.
        seeds: of the items. The draw depends on the seed and the number of classes meant, and on nothing else.

    Returns:
        Numbers of classes, one per item; None for each where there are no classes.

    Raises:
        InputError: no class is meant, there are no classes, or the list's length is wrong.
    """
    meant = _meant(classes, label, len(seeds))
    return [None if one is None else one[_draw(seed, len(one))] for one, seed in zip(meant, seeds, strict=True)]


def choose_told(classes: Sequence[str], label: Any, seeds: Sequence[int]) -> list[int | None]:
    """As `choose`, but for an operation in which None is no answer where there are classes."""
    if classes and label is None:
        raise InputError(f"label: this network has classes and wants one of {listed(classes)}, got None")
    return choose(classes, label, seeds)


def choose_exactly(classes: Sequence[str], label: Any, count: int) -> list[int | None]:
    """As `choose_told` where nothing may be drawn: every label must mean one class."""
    if classes and label is None:
        raise InputError(f"label: this network has classes and wants one of {listed(classes)}, got None")
    meant = _meant(classes, label, count)
    for one in meant:
        if one is not None and len(one) > 1:
            raise InputError(f"label: expected one class, got {label!r:.80}, which is {_quoted(classes, one)}")
    return [None if one is None else one[0] for one in meant]


def _meant(classes: Sequence[str], label: Any, count: int) -> list[list[int] | None]:
    if not classes:
        if label is not None:
            raise InputError(f"label: this network has no classes; expected None, got {label!r:.80}")
        return [None] * count
    if label is None:
        return [list(range(len(classes)))] * count
    if isinstance(label, (list, tuple, range)) or (isinstance(label, np.ndarray) and label.ndim == 1):
        if len(label) != count:
            raise InputError(f"label: expected one, or one per item ({count}), got {len(label)}")
        return [_classes_of(classes, one, f"label[{i}]") for i, one in enumerate(label)]
    return [_classes_of(classes, label, "label")] * count


def _classes_of(classes: Sequence[str], label: Any, name: str) -> list[int]:
    if not isinstance(label, (int, np.integer, str)) or isinstance(label, bool):
        raise InputError(f"{name}: expected an integer or a name, got {label!r:.80}")
    text = str(label)
    found = [classes.index(text)] if text in classes else [i for i, one in enumerate(classes) if one.split()[0] == text]
    if not found:
        raise InputError(f"{name}: expected one of {listed(classes)}, got {label!r:.80}")
    return found


def listed(classes: Sequence[str]) -> str:
    """The first words, which are what one usually asks for, and an example of a longer name."""
    words = list(dict.fromkeys(name.split()[0] for name in classes))
    text = _shortened([repr(word) for word in words])
    longer = next((name for name in classes if name not in words), None)
    return text if longer is None else f"{text}, or a whole name such as {longer!r}"


def _quoted(classes: Sequence[str], numbers: Sequence[int]) -> str:
    return f"{len(numbers)} of them: {_shortened([repr(classes[i]) for i in numbers])}"


def _shortened(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _draw(seed: int, count: int) -> int:
    """A number below count. The noise's counters end in 0, this one in 1: neither says anything of the other."""
    zero, one = np.zeros(1, np.uint64), np.ones(1, np.uint64)
    word = int(philox4x32((zero, zero, zero, one), (seed & 0xFFFFFFFF, seed >> 32))[0][0])
    return word * count >> 32
