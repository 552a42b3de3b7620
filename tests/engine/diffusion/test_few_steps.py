"""Schedules of 1 to 5 steps: levels of a fast schedule of six, and the checkpoint's own."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.config import BASE, LARGE, Config
from engine.diffusion.schedule import FEW_STEPS, build_schedule, merge_betas, step_counts
from engine.errors import InputError
from tests.support.tolerances import TOLERANCES

NO_FAST = replace(BASE, fast_schedule=None)
OWN_SIX = replace(BASE, fast_schedule=(0.001, 0.01, 0.02, 0.03, 0.04, 0.05))
TWELVE = replace(BASE, fast_schedule=tuple(np.geomspace(1e-4, 0.2, 12).tolist()))
BY_THREE = (1e-4, 0.0604405, 0.6)

# Standard deviations of the noise, sqrt(1 - alpha_bar), noisiest first.
KEPT_NOISE = {1: [0.790], 2: [0.790, 0.105], 3: [0.790, 0.246, 0.010], 4: [0.790, 0.498, 0.105, 0.010]}


@pytest.mark.parametrize("count", range(1, 6))
@pytest.mark.parametrize("config", [BASE, LARGE, NO_FAST, OWN_SIX], ids=["base", "large", "paper's", "own six"])
def test_few_steps_lie_on_levels_of_the_fast_schedule(config: Config, count: int) -> None:
    fast, few = build_schedule(config), build_schedule(config, count)
    assert len(few) == count == len(FEW_STEPS[count]) and few.sigma[-1] == 0.0
    kept = [5 - level for level in reversed(FEW_STEPS[count])]  # in the order of execution
    assert few.t == tuple(fast.t[n] for n in kept)
    np.testing.assert_allclose(few.alpha_bar, [fast.alpha_bar[n] for n in kept], rtol=1e-14)
    assert few.t[0] == fast.t[0]  # every one begins in the noisiest level


@pytest.mark.parametrize("count", KEPT_NOISE)
def test_kept_levels_of_the_paper(count: int) -> None:
    noise = np.sqrt(1.0 - np.array(build_schedule(BASE, count).alpha_bar))
    np.testing.assert_allclose(noise, KEPT_NOISE[count], rtol=0, atol=TOLERANCES["noise_level_3_digits"])


@pytest.mark.parametrize(
    ("count", "betas"),
    [(3, BY_THREE), (4, (1e-4, 0.01099, 0.24, 0.5)), (1, (0.62421378238,)), (5, (1e-4, 0.01099, 0.05, 0.2, 0.5))],
)
def test_merged_betas_of_the_paper(count: int, betas: tuple[float, ...]) -> None:
    assert build_schedule(BASE, count).beta[::-1] == pytest.approx(betas, rel=1e-12)
    written = build_schedule(BASE, schedule=betas)
    np.testing.assert_allclose(written.t, build_schedule(BASE, count).t, rtol=0, atol=1e-9)


@settings(deadline=None)
@given(st.lists(st.floats(1e-5, 0.4), min_size=1, max_size=14), st.data())
def test_merged_betas_keep_alpha_bar(betas: list[float], data: Any) -> None:
    levels = sorted(data.draw(st.sets(st.integers(0, len(betas) - 1), min_size=1)))
    merged = merge_betas(betas, levels)
    assert len(merged) == len(levels) and all(0.0 < beta < 1.0 for beta in merged)
    np.testing.assert_allclose(
        np.cumprod(1.0 - np.array(merged)), np.cumprod(1.0 - np.array(betas))[levels], rtol=1e-12
    )
    if levels == list(range(len(betas))):
        assert merged == tuple(betas)


def test_merging_in_two_stages_is_merging_once() -> None:
    betas = BASE.fast_schedule
    assert betas is not None
    for levels in itertools.combinations(range(6), 4):
        for positions in itertools.combinations(range(4), 2):
            once = merge_betas(betas, [levels[n] for n in positions])
            assert merge_betas(merge_betas(betas, levels), positions) == pytest.approx(once, rel=1e-12)


def test_table_names_every_number_below_six_once() -> None:
    assert list(FEW_STEPS) == [1, 2, 3, 4, 5]
    for count, levels in FEW_STEPS.items():
        assert list(levels) == sorted(set(levels)) and len(levels) == count and levels[-1] == 5


@pytest.mark.parametrize(
    ("config", "counts", "words"),
    [
        (BASE, [1, 2, 3, 4, 5, 6, 50], "1 to 6 or 50, "),
        (LARGE, [1, 2, 3, 4, 5, 6, 200], "1 to 6 or 200, "),
        (NO_FAST, [1, 2, 3, 4, 5, 6, 50], "1 to 6 or 50, "),
        (TWELVE, [12, 50], "12 or 50, "),
        (replace(TWELVE, schedules=(BY_THREE,)), [3, 12, 50], "3, 12 or 50, "),
        (replace(TWELVE, schedules=(BY_THREE, (0.1, 0.5))), [2, 3, 12, 50], "2, 3, 12 or 50, "),
        (replace(BASE, schedules=((0.01,) * 7,)), [1, 2, 3, 4, 5, 6, 7, 50], "1 to 7 or 50, "),
        (replace(NO_FAST, train_schedule=(1e-3, 0.01, 0.1)), [3], "3, "),
        (replace(BASE, fast_schedule=(0.5, 0.2, 0.05, 0.01, 1e-3, 1e-4)), [50], "50, "),
        (replace(BASE, train_schedule=BASE.train_schedule[:20]), [20], "20, "),
    ],
)
def test_numbers_of_steps_and_the_message_that_lists_them(config: Config, counts: list[int], words: str) -> None:
    assert step_counts(config) == counts
    for count in counts:
        assert len(build_schedule(config, count)) == len(build_schedule(config, np.int16(count))) == count
    with pytest.raises(InputError) as refusal:
        build_schedule(config, 99)
    assert str(refusal.value).startswith(f"steps: expected {words}")
    for count in set(range(1, 9)) - set(counts):
        with pytest.raises(InputError, match=r"^steps"):
            build_schedule(config, count)


def test_message_names_the_command_that_finds_few_steps() -> None:
    remedy = "; 'engine tune-steps' finds schedules of 1 to 5 steps"
    for config, steps, expected in (
        (TWELVE, 3, True),
        (TWELVE, 7, False),
        (replace(TWELVE, n_mels=0, upsample_strides=(), mel_kind=None), 3, False),
    ):
        with pytest.raises(InputError) as refusal:
            build_schedule(config, steps)
        assert (remedy in str(refusal.value)) == expected


def test_checkpoints_own_schedules_come_first() -> None:
    six, four = (0.01, 0.02, 0.03, 0.04, 0.05, 0.06), (0.01, 0.02, 0.1, 0.2)
    config = replace(BASE, schedules=(six, BY_THREE, four, BASE.train_schedule[:-1], (0.02,) * 50))
    for betas in config.schedules:
        assert build_schedule(config, len(betas)).beta == betas[::-1]
    assert build_schedule(config, 2) == build_schedule(BASE, 2)  # others stay those of the fast schedule
    assert build_schedule(config) == build_schedule(config, "fast") == build_schedule(BASE, 6)
    assert build_schedule(config, "full") == build_schedule(BASE, 50)


@pytest.mark.parametrize("steps", [3, 6, "fast", "full", 0, "?"])
def test_steps_beside_a_schedule_are_refused(steps: Any) -> None:
    with pytest.raises(
        InputError, match=rf"^steps: expected None beside a schedule, got {steps!r}; pass one of".replace("?", r"\?")
    ):
        build_schedule(BASE, steps, BY_THREE)


def test_default_without_steps_and_schedule() -> None:
    assert build_schedule(BASE) == build_schedule(BASE, None) == build_schedule(BASE, "fast")
    assert build_schedule(BASE, default="full") == build_schedule(BASE, "full")
    assert build_schedule(BASE, 3, default="full") == build_schedule(BASE, 3)
    assert build_schedule(BASE, schedule=BY_THREE, default="full").beta == BY_THREE[::-1]


@settings(deadline=None)
@given(st.lists(st.floats(1e-4, 0.4), min_size=6, max_size=6).map(sorted), st.integers(1, 5))
def test_any_six_steps_have_few_steps_of_algorithm_2(betas: list[float], count: int) -> None:
    """Each step goes from its level to the next, also where the merged betas do not ascend."""
    config = replace(BASE, fast_schedule=tuple(betas))
    if 6 not in step_counts(config):
        assert count not in step_counts(config)
        return
    few = build_schedule(config, count)
    levels = [*few.alpha_bar, 1.0]
    for n in range(count):
        beta = 1.0 - levels[n] / levels[n + 1]
        assert few.beta[n] == pytest.approx(beta, rel=1e-9)
        assert few.b[n] == pytest.approx(-beta / math.sqrt((1 - levels[n]) * (1 - beta)), rel=1e-9)
        assert few.sigma[n] ** 2 == pytest.approx((1 - levels[n + 1]) / (1 - levels[n]) * beta, rel=1e-8, abs=1e-15)
