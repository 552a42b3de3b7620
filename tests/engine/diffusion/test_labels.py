"""Resolution of class labels: matching, drawing from a seed, refusals."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from engine.diffusion.labels import resolve_labels
from engine.errors import InputError

CLASSES = ("0 ann", "0 ben", "1 ann", "1 ben", "10 ann", "zero")
THOUSAND = tuple(map(str, range(1000)))


@pytest.mark.parametrize(
    ("label", "indices"),
    [
        (0, {0, 1}),
        ("0", {0, 1}),
        (np.int64(1), {2, 3}),
        (10, {4}),
        ("0 ben", {1}),
        ("zero", {5}),
        (np.str_("zero"), {5}),
        (None, {0, 1, 2, 3, 4, 5}),
    ],
)
def test_label_matches_by_name_or_first_word(label: Any, indices: set[int]) -> None:
    drawn = resolve_labels(CLASSES, label, range(300))
    assert set(drawn) == indices
    counts = Counter(drawn).values()
    assert max(counts) < 2 * min(counts), "the draw is far from uniform"


def test_whole_name_takes_precedence_over_first_word() -> None:
    assert set(resolve_labels(("3", "3 ann", "33"), 3, range(100))) == {0}
    assert set(resolve_labels(("3 ann", "3 ben", "33"), 3, range(100))) == {0, 1}


def test_draw_depends_on_the_seed_only() -> None:
    np.random.seed(1)
    state = np.random.get_state()[1].copy()
    seeds = [2**64 - 1, 5, 0, 5, 7]
    drawn = resolve_labels(CLASSES, 0, seeds)
    assert drawn == [resolve_labels(CLASSES, 0, [seed])[0] for seed in seeds]
    assert drawn[1] == drawn[3] and len({resolve_labels(CLASSES, None, [seed])[0] for seed in range(20)}) > 1
    assert np.array_equal(np.random.get_state()[1], state)


def test_drawn_classes_never_change() -> None:
    """A seed of an earlier release must select the same class."""
    assert resolve_labels(THOUSAND, None, []) == []
    assert resolve_labels(THOUSAND, None, [0, 1, 2, 2**63]) == [178, 72, 312, 859]


def test_one_label_per_item() -> None:
    assert resolve_labels(CLASSES, ["1 ben", "zero", 10], [1, 2, 3]) == [3, 5, 4]
    assert resolve_labels(CLASSES, np.array([10, 10]), [1, 2]) == [4, 4]
    assert resolve_labels(CLASSES, range(10, 11), [1]) == [4]


@pytest.mark.parametrize("options", [{}, {"required": True}, {"required": True, "unique": True}])
def test_network_without_classes_takes_no_label(options: dict[str, bool]) -> None:
    assert resolve_labels((), None, [1, 2], **options) == [None, None]
    with pytest.raises(InputError, match="label: this network has no classes; expected None, got 3"):
        resolve_labels((), 3, [1], **options)


def test_required_label() -> None:
    with pytest.raises(InputError, match=r"label: this network has classes; expected one of '0', .*, got None"):
        resolve_labels(CLASSES, None, [1], required=True)
    assert resolve_labels(CLASSES, "zero", [1], required=True) == [5]


def test_unique_label() -> None:
    assert resolve_labels(CLASSES, "0 ben", [0, 0], unique=True) == [1, 1]
    assert resolve_labels(CLASSES, ["0 ben", 10], [0, 0], unique=True) == [1, 4]
    with pytest.raises(InputError, match="label: expected one class, got 0, which matches 2 classes: '0 ann', '0 ben'"):
        resolve_labels(CLASSES, 0, [0], unique=True)
    with pytest.raises(InputError, match="label: expected one class, got None, which matches 6 classes"):
        resolve_labels(CLASSES, None, [0], unique=True)


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (2, "label: expected one of '0', '1', '10', 'zero', or a whole name such as '0 ann', got 2"),
        ("ann", "label: expected one of '0', .*, got 'ann'"),
        ("", "label: expected one of '0', .*, got ''"),
        (1.0, "label: expected an integer or a name, got 1.0"),
        (True, "label: expected an integer or a name, got True"),
        ({}, "label: expected an integer or a name, got {}"),
        ([], r"label: expected one label, or one per item \(2\), got 0"),
        ([1, 1, 1], r"label: expected one label, or one per item \(2\), got 3"),
        ([1, None], r"label\[1\]: expected an integer or a name, got None"),
        ([1, 7], r"label\[1\]: expected one of '0', .*, got 7"),
        (np.ones((2, 2)), "label: expected an integer or a name"),
        (np.ones(2), r"label\[0\]: expected an integer or a name"),
    ],
)
def test_impossible_labels_are_refused(label: Any, message: str) -> None:
    with pytest.raises(InputError, match=f"^{message}") as refusal:
        resolve_labels(CLASSES, label, [1, 2])
    assert len(str(refusal.value)) < 300


def test_message_lists_at_most_12_classes() -> None:
    with pytest.raises(InputError, match=r"'11' and 988 more, got 'x'$"):
        resolve_labels(THOUSAND, "x", [1])
