from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from engine.diffusion.labels import choose, choose_exactly, choose_told
from engine.errors import InputError

CLASSES = ("0 ann", "0 ben", "1 ann", "1 ben", "10 ann", "zero")


@pytest.mark.parametrize(
    ("label", "meant"),
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
def test_a_label_means_classes_by_name_or_first_word(label: Any, meant: set[int]) -> None:
    drawn = choose(CLASSES, label, range(300))
    assert set(drawn) == meant
    counts = Counter(drawn).values()
    assert max(counts) < 2 * min(counts), "the draw is far from even"


def test_a_whole_name_is_that_class_alone_though_it_is_others_first_word() -> None:
    assert set(choose(("3", "3 ann", "33"), 3, range(100))) == {0}
    assert set(choose(("3 ann", "3 ben", "33"), 3, range(100))) == {0, 1}


def test_the_draw_is_the_seeds_alone() -> None:
    np.random.seed(1)
    before = np.random.get_state()[1].copy()
    seeds = [2**64 - 1, 5, 0, 5, 7]
    drawn = choose(CLASSES, 0, seeds)
    assert drawn == [choose(CLASSES, 0, [seed])[0] for seed in seeds]
    assert drawn[1] == drawn[3] and len({choose(CLASSES, None, [seed])[0] for seed in range(20)}) > 1
    assert np.array_equal(np.random.get_state()[1], before)
    # Values of this function are part of what a seed means: they may not change.
    assert choose(range(1000), None, []) == []
    names = tuple(map(str, range(1000)))
    assert choose(names, None, [0, 1, 2, 2**63]) == PINNED


PINNED = [178, 72, 312, 859]


def test_one_label_per_item() -> None:
    assert choose(CLASSES, ["1 ben", "zero", 10], [1, 2, 3]) == [3, 5, 4]
    assert choose(CLASSES, np.array([10, 10]), [1, 2]) == [4, 4]
    assert choose(CLASSES, range(10, 11), [1]) == [4]


def test_without_classes_there_is_no_label() -> None:
    for function in (choose, choose_told):
        assert function((), None, [1, 2]) == [None, None]
    assert choose_exactly((), None, 2) == [None, None]
    with pytest.raises(InputError, match="label: this network has no classes; expected None, got 3"):
        choose((), 3, [1])


def test_where_nothing_may_be_drawn() -> None:
    assert choose_exactly(CLASSES, "0 ben", 2) == [1, 1]
    assert choose_exactly(CLASSES, ["0 ben", 10], 2) == [1, 4]
    with pytest.raises(InputError, match="label: expected one class, got 0, which is 2 of them: '0 ann', '0 ben'"):
        choose_exactly(CLASSES, 0, 1)
    wanted = "label: this network has classes and wants one of '0', .*, got None"
    with pytest.raises(InputError, match=wanted):
        choose_exactly(CLASSES, None, 1)
    with pytest.raises(InputError, match=wanted):
        choose_told(CLASSES, None, [1])
    assert choose_told(CLASSES, "zero", [1]) == [5]


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (2, "label: expected one of '0', '1', '10', 'zero', or a whole name such as '0 ann', got 2"),
        ("ann", "label: expected one of '0', .*, got 'ann'"),
        ("", "label: expected one of '0', .*, got ''"),
        (1.0, "label: expected an integer or a name, got 1.0"),
        (True, "label: expected an integer or a name, got True"),
        ({}, "label: expected an integer or a name, got {}"),
        ([], r"label: expected one, or one per item \(2\), got 0"),
        ([1, 1, 1], r"label: expected one, or one per item \(2\), got 3"),
        ([1, None], r"label\[1\]: expected an integer or a name, got None"),
        ([1, 7], r"label\[1\]: expected one of '0', .*, got 7"),
        (np.ones((2, 2)), "label: expected an integer or a name"),
        (np.ones(2), r"label\[0\]: expected an integer or a name"),
    ],
)
def test_other_labels_are_refused(label: Any, message: str) -> None:
    with pytest.raises(InputError, match=f"^{message}") as caught:
        choose(CLASSES, label, [1, 2])
    assert len(str(caught.value)) < 300


def test_many_classes_are_not_all_listed() -> None:
    with pytest.raises(InputError, match=r"'11' and 988 more, got 'x'$"):
        choose(tuple(map(str, range(1000))), "x", [1])
