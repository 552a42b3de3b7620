"""How utterances are cut and put together: every sample is kept once, with all that it depends on around it."""

from __future__ import annotations

from math import lcm

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.windows import Window, cut, pack, padded_items, padded_length

LENGTHS = st.lists(st.integers(1, 5000), min_size=1, max_size=4)


@given(LENGTHS, st.integers(0, 300), st.sampled_from([1, 2, 16, 30, 256]), st.integers(1, 4000))
def test_every_sample_is_kept_once_with_its_surroundings(lengths: list[int], halo: int, hop: int, limit: int) -> None:
    lengths = [length * hop for length in lengths]
    windows = cut(lengths, halo, hop, limit)
    for item, length in enumerate(lengths):
        own = [window for window in windows if window.item == item]
        ends = [0, *(window.keep_end for window in own)]
        assert [window.keep_begin for window in own] == ends[:-1] and ends[-1] == length
        for window in own:
            assert window.begin <= max(0, window.keep_begin - halo)
            assert window.end >= min(length, window.keep_end + halo)
            assert window.begin % lcm(hop, 4) == 0 and window.end % hop == 0
            assert 0 <= window.begin <= window.keep_begin < window.keep_end <= window.end <= length
            assert window.length <= max(limit, 4 * (halo + lcm(hop, 4)))


def test_what_fits_is_one_window() -> None:
    assert cut([512, 256], 1000, 256, 512) == [Window(0, 0, 512, 0, 512), Window(1, 0, 256, 0, 256)]


@given(LENGTHS, st.integers(1, 20000))
def test_batches_hold_everything_within_their_budget(lengths: list[int], budget: int) -> None:
    windows = cut(lengths, 10, 1, 2000)
    batches = pack(windows, budget)
    assert sorted((w for batch in batches for w in batch), key=str) == sorted(windows, key=str)
    for batch in batches:
        longest = max(window.length for window in batch)
        assert batch[0].length == longest
        assert len(batch) == 1 or padded_items(len(batch)) * padded_length(longest, 1) <= budget


@given(st.integers(1, 10**7), st.sampled_from([1, 128]))
def test_capacities_are_few_and_little_of_them_is_empty(length: int, grain: int) -> None:
    capacity = padded_length(length, grain)
    assert capacity % grain == 0 and length <= capacity < length * 1.125 + grain
    assert padded_length(capacity, grain) == capacity


def test_few_capacities() -> None:
    assert len({padded_length(n, 128) for n in range(1, 128 * 1024, 100)}) <= 70


@pytest.mark.parametrize(("count", "padded"), [(1, 1), (3, 3), (4, 4), (5, 8), (9, 12), (64, 64)])
def test_batch_sizes(count: int, padded: int) -> None:
    assert padded_items(count) == padded
