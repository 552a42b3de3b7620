"""Class labels: the classes that a caller's label matches, and the class of every item."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from engine.diffusion.noise import philox4x32
from engine.errors import InputError

MAX_NAMES_SHOWN = 12  # in a message


def resolve_labels(
    classes: Sequence[str], label: Any, seeds: Sequence[int], *, required: bool = False, unique: bool = False
) -> list[int | None]:
    """Return the class of every item.

    A label matches the class whose name is ``str(label)``. If there is none, it matches all classes of which it is the
    first word. Of several matching classes, one is drawn from the item's seed.

    Args:
        classes: `Config.classes`.
        label: a number or a name, or a list of one per item; None matches all classes.
        seeds: one per item. The draw depends on the seed and the number of matching classes, and on nothing else.
        required: whether None is refused for a network with classes.
        unique: whether a label that matches several classes is refused.

    Returns:
        Indices into `classes`, one per item; None per item for a network without classes.

    Raises:
        InputError: a label matches no class, the network has no classes, the list's length is wrong, or the label is
            not what `required` or `unique` demands.
    """
    if required and classes and label is None:
        raise InputError(f"label: this network has classes; expected one of {list_names(classes)}, got None")
    matches = _match_labels(classes, label, len(seeds))
    for indices in matches:
        if unique and indices is not None and len(indices) > 1:
            names = _shorten([repr(classes[index]) for index in indices])
            raise InputError(
                f"label: expected one class, got {label!r:.80}, which matches {len(indices)} classes: {names}"
            )
    return [
        None if indices is None else indices[_draw(seed, len(indices))]
        for indices, seed in zip(matches, seeds, strict=True)
    ]


def list_names(classes: Sequence[str]) -> str:
    """Return the first words of the classes as a list for a message, and an example of a longer name."""
    words = list(dict.fromkeys(name.split()[0] for name in classes))
    text = _shorten([repr(word) for word in words])
    longer = next((name for name in classes if name not in words), None)
    return text if longer is None else f"{text}, or a whole name such as {longer!r}"


def _match_labels(classes: Sequence[str], label: Any, count: int) -> list[list[int] | None]:
    if not classes:
        if label is not None:
            raise InputError(f"label: this network has no classes; expected None, got {label!r:.80}")
        return [None] * count
    if label is None:
        return [list(range(len(classes)))] * count
    if isinstance(label, (list, tuple, range)) or (isinstance(label, np.ndarray) and label.ndim == 1):
        if len(label) != count:
            raise InputError(f"label: expected one label, or one per item ({count}), got {len(label)}")
        return [_match_label(classes, value, f"label[{i}]") for i, value in enumerate(label)]
    return [_match_label(classes, label, "label")] * count


def _match_label(classes: Sequence[str], label: Any, argument: str) -> list[int]:
    if not isinstance(label, (int, np.integer, str)) or isinstance(label, bool):
        raise InputError(f"{argument}: expected an integer or a name, got {label!r:.80}")
    text = str(label)
    if text in classes:
        return [classes.index(text)]
    indices = [i for i, name in enumerate(classes) if name.split()[0] == text]
    if not indices:
        raise InputError(f"{argument}: expected one of {list_names(classes)}, got {label!r:.80}")
    return indices


def _shorten(names: Sequence[str]) -> str:
    more = f" and {len(names) - MAX_NAMES_SHOWN} more" if len(names) > MAX_NAMES_SHOWN else ""
    return ", ".join(names[:MAX_NAMES_SHOWN]) + more


def _draw(seed: int, count: int) -> int:
    """Draw a number from 0 to count - 1 from a seed, independent of the seed's noise."""
    # The last word of the counter is 0 in all counters of the noise (`engine.diffusion.noise`), and 1 here.
    zero, one = np.zeros(1, np.uint64), np.ones(1, np.uint64)
    word = int(philox4x32((zero, zero, zero, one), (seed & 0xFFFFFFFF, seed >> 32))[0][0])
    return word * count >> 32
