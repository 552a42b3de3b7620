"""Schedules: published values, positions on the training scale, refusals."""

from __future__ import annotations

import math
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from engine.config import BASE, LARGE
from engine.diffusion.schedule import align, build_schedule
from engine.errors import InputError
from tests.support.tolerances import TOLERANCES

BASE_FAST = (1e-4, 1e-3, 0.01, 0.05, 0.2, 0.5)
LARGE_FAST = (1e-4, 1e-3, 0.01, 0.05, 0.2, 0.7)
BASE_T = [0.0, 0.894134, 4.086654, 10.451817, 22.992493, 42.918644]
BASE_SIGMA = [0.0, 0.009535, 0.031494, 0.095704, 0.220758, 0.446086]
LARGE_T = [0.0, 3.200680, 13.430278, 33.820290, 73.982468, 170.605133]
BDDM = [0.000135594, 0.0010096, 0.00877838, 0.135964, 0.277557, 0.28931, 0.3]


def alpha_bars(betas):
    return np.cumprod(1.0 - np.asarray(betas, dtype=np.float64))


@pytest.mark.parametrize(("config", "betas", "t"), [(BASE, BASE_FAST, BASE_T), (LARGE, LARGE_FAST, LARGE_T)])
def test_six_steps_agree_with_the_paper(config, betas, t):
    schedule = build_schedule(config, 6)
    assert len(schedule) == 6
    assert schedule.beta == betas[::-1]
    np.testing.assert_allclose(schedule.t[::-1], t, rtol=0, atol=TOLERANCES["schedule_t"])
    assert schedule.t[-1] == 0.0


def test_sigmas_agree_with_the_paper():
    sigma = build_schedule(BASE, 6).sigma[::-1]
    np.testing.assert_allclose(sigma, BASE_SIGMA, rtol=0, atol=TOLERANCES["schedule_sigma"])
    assert sigma[0] == 0.0


@pytest.mark.parametrize("config", [BASE, LARGE])
@pytest.mark.parametrize("steps", [6, "full"])
def test_coefficients_agree_with_algorithm_2(config, steps):
    """Compute the next x as in the paper, step by step in plain Python."""
    schedule = build_schedule(config, steps)
    betas = schedule.beta[::-1]
    alpha_bar = alpha_bars(betas)
    for executed, n in enumerate(reversed(range(len(betas)))):
        x, eps, z = 0.7, -1.3, 0.4
        expected = (x - betas[n] / math.sqrt(1 - alpha_bar[n]) * eps) / math.sqrt(1 - betas[n])
        if n > 0:
            expected += math.sqrt((1 - alpha_bar[n - 1]) / (1 - alpha_bar[n]) * betas[n]) * z
        result = schedule.a[executed] * x + schedule.b[executed] * eps + schedule.sigma[executed] * z
        assert result == pytest.approx(expected, rel=1e-10)
        assert schedule.alpha_bar[executed] == pytest.approx(alpha_bar[n], rel=1e-14)


@pytest.mark.parametrize(("config", "count"), [(BASE, 50), (LARGE, 200)])
def test_full_schedule_is_the_training_schedule(config, count):
    full = build_schedule(config, "full")
    assert full.t == tuple(float(n) for n in reversed(range(count)))
    assert full.beta == config.train_schedule[::-1]
    assert build_schedule(config, count) == full
    assert build_schedule(config, schedule=config.train_schedule) == full
    assert build_schedule(config, schedule=np.array(config.train_schedule)) == full


@pytest.mark.parametrize("count", [1, 3, 6])
def test_a_training_schedule_of_few_steps_is_the_fast_one(count):
    betas = tuple(np.linspace(1e-4, 0.05, count))
    config = replace(BASE, train_schedule=betas, fast_schedule=None)
    for steps in ("fast", "full", count):
        assert build_schedule(config, steps).beta == betas[::-1]


def test_checkpoints_fast_schedule_takes_precedence():
    seven = replace(LARGE, fast_schedule=tuple(BDDM))
    assert build_schedule(seven, 7).beta == tuple(BDDM[::-1])
    assert build_schedule(seven, np.int64(7)) == build_schedule(seven, 7) == build_schedule(seven, "fast")
    assert build_schedule(seven) == build_schedule(seven, "fast")
    other_six = replace(BASE, fast_schedule=(0.001, 0.01, 0.02, 0.03, 0.04, 0.05))
    assert build_schedule(other_six).beta == (0.05, 0.04, 0.03, 0.02, 0.01, 0.001)
    assert build_schedule(replace(BASE, fast_schedule=None)).beta == BASE_FAST[::-1]
    assert build_schedule(replace(LARGE, fast_schedule=None)).beta == LARGE_FAST[::-1]
    assert build_schedule(replace(LARGE, fast_schedule=None), 6).beta == LARGE_FAST[::-1]


@pytest.mark.parametrize("count", [1, 4, 7, 12, 25])
def test_paper_schedule_is_no_substitute_for_the_checkpoints_own(count):
    """A caller who passes 6 steps must not get betas that the checkpoint was not made for."""
    own = tuple(np.geomspace(1e-4, 0.2, count).tolist())
    config = replace(BASE, fast_schedule=own)
    assert build_schedule(config).beta == build_schedule(config, count).beta == own[::-1]
    message = rf'steps: expected {count} or 50, "fast" \({count} steps, the checkpoint.s own\), "full" \(50 steps\), '
    for steps in {6, 5, 49} - {count}:
        with pytest.raises(InputError, match=message):
            build_schedule(config, steps)


def test_bddm_schedule_fits_its_network():
    schedule = build_schedule(LARGE, schedule=BDDM)
    assert len(schedule) == 7
    assert all(later < earlier for earlier, later in zip(schedule.t, schedule.t[1:], strict=False))


@pytest.mark.parametrize("config", [BASE, LARGE])
def test_betas_rounded_to_float32_keep_their_positions(config):
    for steps in (6, "full"):
        exact = build_schedule(config, steps)
        rounded = build_schedule(config, schedule=np.array(exact.beta[::-1], dtype=np.float32))
        np.testing.assert_allclose(rounded.t, exact.t, rtol=0, atol=1e-4)
        assert 0.0 <= min(rounded.t) <= max(rounded.t) <= len(config.train_schedule) - 1


def test_training_schedule_of_one_step():
    config = replace(BASE, train_schedule=(0.3,), fast_schedule=None)
    assert build_schedule(config, 1).t == (0.0,)
    assert build_schedule(config, schedule=[np.float32(0.3)]).t == (0.0,)


@pytest.mark.parametrize(
    ("config", "betas", "beta", "side"),
    [
        (BASE, [5e-5, 0.01, 0.2], "beta[0] = 5e-05", "above"),
        (BASE, [9.99e-5, 0.01, 0.2], "beta[0] = 9.99e-05", "above"),
        (BASE, [1e-4, 0.5, 0.6], "beta[2] = 0.6", "below"),
        (BASE, (*BASE_FAST[:5], 0.7), "beta[5] = 0.7", "below"),
        (LARGE, [0.9], "beta[0] = 0.9", "below"),
    ],
)
def test_message_about_betas_outside_the_scale_lists_the_choices(config, betas, beta, side):
    with pytest.raises(InputError) as refusal:
        build_schedule(config, schedule=betas)
    train = alpha_bars(config.train_schedule)
    level = alpha_bars(betas)[int(beta[5])]
    message = str(refusal.value)
    for part in (
        "schedule: " + beta,
        f"gives alpha_bar {level:.7g}",
        f"{side} the training schedule's {train[-1]:.7g} to {train[0]:.7g}",
        f"choices: steps=1 to 6 or {len(train)}, ",
        '"fast" (6 steps, the checkpoint\'s own)',
        f'"full" ({len(train)} steps)',
        f"betas of your own as schedule= (in Python) with alpha_bar within {train[-1]:.7g}",
    ):
        assert part in message


def test_fast_schedule_outside_the_scale_is_not_a_choice():
    short = replace(BASE, train_schedule=tuple(np.linspace(1e-4, 0.05, 20).tolist()))
    with pytest.raises(InputError, match=r"^steps='fast': beta\[5\] = 0.5 gives alpha_bar") as refusal:
        build_schedule(short)
    assert 'choices: steps=20, "full" (20 steps), betas of your own as schedule=' in str(refusal.value)


@pytest.mark.parametrize("steps", [7, 0, -6, "Fast", "6", "", True, 6.0, math.nan, [6], b"full"])
def test_unknown_steps_are_refused(steps):
    with pytest.raises(InputError) as refusal:
        build_schedule(BASE, steps)
    message = str(refusal.value)
    assert message.startswith(
        'steps: expected 1 to 6 or 50, "fast" (6 steps, the checkpoint\'s own), "full" (50 steps)'
    )
    assert message.endswith(f", got {steps!r}")


def test_choices_depend_on_the_network():
    def choices(config):
        with pytest.raises(InputError) as refusal:
            build_schedule(config, "?")
        return str(refusal.value)

    own = 'expected 7 or 200, "fast" (7 steps, the checkpoint\'s own), "full" (200 steps), '
    assert own in choices(replace(LARGE, fast_schedule=tuple(BDDM)))
    no_fast = replace(BASE, fast_schedule=None)
    papers = 'expected 1 to 6 or 50, "fast" (6 steps, the paper\'s), "full" (50 steps), '
    assert papers in choices(no_fast)
    for steps in (0, True):
        with pytest.raises(InputError, match="steps: expected"):
            build_schedule(replace(no_fast, train_schedule=(0.1,)), steps)


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ([], "got 0"),
        ([1e-4] * 10001, "got 10001"),
        ([1e-4, math.nan], "got nan at index 1"),
        ([1e-4, math.inf], "got inf at index 1"),
        ([0.0, 0.1], "got 0.0 at index 0"),
        ([0.1, 1.0], "got 1.0 at index 1"),
        ([-0.1], "got -0.1 at index 0"),
        ([2, 3], "got 2.0 at index 0"),
        ([True, False], "got list of shape (2,)"),
        (["0.1"], "got list of shape (1,)"),
        ([0.1j], "got list of shape (1,)"),
        ([None, 0.1], "got list of shape (2,)"),
        (np.full((2, 3), 0.1), "got ndarray of shape (2, 3)"),
        ([[0.1], [0.1, 0.2]], "got [[0.1], [0.1, 0.2]]"),
        (0.1, "got float: 0.1"),
        (True, "got bool: True"),
        ("full", "got str: 'full'"),
        ({0.1: 0.2}, "got dict"),
        (iter([0.1]), "got list_iterator"),
    ],
)
def test_impossible_schedules_are_refused(schedule, message):
    with pytest.raises(InputError) as refusal:
        build_schedule(BASE, schedule=schedule)
    assert str(refusal.value).startswith("schedule: expected a list of betas between 0 and 1")
    assert message in str(refusal.value)


def test_schedule_is_frozen_and_hashable():
    schedule = build_schedule(BASE)
    with pytest.raises(FrozenInstanceError):
        schedule.t = ()
    assert {schedule: 1}[build_schedule(BASE, schedule=list(BASE_FAST))] == 1


@pytest.mark.parametrize(
    "betas", [BASE_FAST[::-1], LARGE_FAST[::-1], BDDM[::-1], (0.2, 0.1), BASE.train_schedule[:9:-1]]
)
def test_descending_betas_are_refused(betas):
    message = r"schedule: expected betas that ascend, .*, got .* and then .* at index 1; reverse them: \[::-1\]"
    for schedule in (betas, list(betas), np.array(betas)):
        with pytest.raises(InputError, match=message):
            build_schedule(LARGE, schedule=schedule)


@pytest.mark.parametrize(
    ("betas", "index"),
    [
        ((0.01, 0.001, 0.05), 1),
        ((1e-4, 0.01, 0.001, 0.05, 0.2), 2),
        ((1e-4, 1e-3, 0.01, 0.05, 0.2, 0.1), 5),
        ((0.2, 0.1, 0.3), 1),
        ((1e-4, np.float32(0.01), np.float32(0.0099)), 2),
    ],
)
def test_zigzags_are_refused(betas, index):
    with pytest.raises(InputError, match=f"schedule: expected betas that ascend, .* at index {index}; sort them"):
        build_schedule(BASE, schedule=betas)


def test_equal_betas_ascend():
    for betas in ((0.01, 0.01, 0.01), (1e-4, 1e-4, 0.2, 0.2), (0.3,)):
        assert build_schedule(BASE, schedule=betas).beta == betas[::-1]


def test_own_schedule_of_a_checkpoint_in_the_wrong_order_is_refused():
    config = replace(BASE, fast_schedule=BASE_FAST[::-1])
    for steps in ("fast", 6):
        with pytest.raises(InputError, match=f"^steps={steps!r}: expected betas that ascend, .*reverse them"):
            build_schedule(config, steps)
    odd = replace(BASE, train_schedule=(0.1, 0.05, 0.2), fast_schedule=None)
    assert build_schedule(odd, "full").beta == build_schedule(odd, schedule=(0.1, 0.05, 0.2)).beta == (0.2, 0.05, 0.1)


@settings(deadline=None)
@given(st.sampled_from([BASE, LARGE]), st.lists(st.floats(1e-4, 0.9), min_size=1, max_size=12).map(sorted))
def test_position_on_the_training_scale_has_the_same_noise_level(config, betas):
    """Interpolate sqrt(alpha_bar) of the training linearly at t_n; the result must be sqrt(alpha_bar_n)."""
    train, levels = alpha_bars(config.train_schedule), alpha_bars(betas)
    assume(levels[-1] >= train[-1])
    schedule = build_schedule(config, schedule=betas)
    roots = np.interp(schedule.t, np.arange(len(train)), np.sqrt(train))
    np.testing.assert_allclose(roots, np.sqrt(levels[::-1]), rtol=0, atol=1e-12)
    assert list(schedule.t) == sorted(schedule.t, reverse=True)
    assert list(schedule.alpha_bar) == sorted(schedule.alpha_bar)


@settings(deadline=None)
@given(st.lists(st.floats(0.0, 1.0, exclude_min=True, exclude_max=True), min_size=1, max_size=30))
def test_every_list_of_betas_gives_finite_coefficients_or_a_refusal(betas):
    """Include subnormal betas, betas close to 1, and products that underflow."""
    with np.errstate(divide="raise", invalid="raise", over="raise"):
        full = build_schedule(replace(BASE, train_schedule=tuple(betas)), "full")
        try:
            aligned = build_schedule(BASE, schedule=betas)
        except InputError:
            aligned = full
    rounding = 1.0 + 1e-15
    for schedule in (full, aligned):
        for values in (schedule.t, schedule.a, schedule.b, schedule.sigma, schedule.alpha_bar):
            assert len(values) == len(betas)
            assert np.isfinite(values).all()
        for sigma, beta in zip(schedule.sigma, schedule.beta, strict=True):
            assert 0.0 <= sigma**2 <= beta * rounding


@settings(deadline=None)
@given(st.lists(st.floats(1e-6, 0.5), min_size=2, max_size=60))
def test_training_schedule_aligns_with_itself(betas):
    np.testing.assert_allclose(align(betas, betas), np.arange(len(betas)), rtol=0, atol=1e-6)


@pytest.mark.parametrize("count", [1, 7, 50])
def test_last_steps_equal_a_shorter_training_schedule(count: int) -> None:
    last, short = build_schedule(BASE, "full").last(count), replace(BASE, train_schedule=BASE.train_schedule[:count])
    assert last == build_schedule(short, "full") and len(last) == count
    assert last.t == tuple(float(n) for n in reversed(range(count))) and last.sigma[-1] == 0.0
    assert last.alpha_bar[0] == pytest.approx(math.prod(1.0 - beta for beta in BASE.train_schedule[:count]), rel=1e-12)
