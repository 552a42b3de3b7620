"""Schedules of the reverse process: betas, their positions on the training scale, the coefficients of a step."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.config import (
    BASE_FAST_SCHEDULE,
    LARGE_FAST_SCHEDULE,
    MAX_STEPS,
    Config,
    check_levels,
    noise_levels,
)
from engine.errors import InputError

# The levels of a fast schedule of six steps that fewer steps keep, counted from the least noisy. Of all subsets, these
# have the best PESQ with the bundled voice. Levels beside those of the fast schedule collapse.
FEW_STEPS = {1: (5,), 2: (2, 5), 3: (0, 3, 5), 4: (0, 2, 4, 5), 5: (0, 2, 3, 4, 5)}
_FEW_STEPS_OF = 6  # the length of a fast schedule that has them


@dataclass(frozen=True)
class Schedule:
    """S steps of the reverse process in the order of execution, noisiest first (paper, algorithm 2).

    Step n computes ``x = a[n] * x + b[n] * eps(x, t[n]) + sigma[n] * z``, z standard normal. All values are float64
    and have no unit, except t, which counts training steps.

    Attributes:
        t: the position of the step on the training scale, 0 .. T-1, with fractions.
        a: ``1 / sqrt(1 - beta)``.
        b: ``-beta / sqrt(1 - alpha_bar) / sqrt(1 - beta)``.
        sigma: ``sqrt((1 - alpha_bar of the next executed step) / (1 - alpha_bar) * beta)``; 0 in the last step.
        beta: the variance that the step removes.
        alpha_bar: the product of ``1 - beta`` over this step and all steps executed after it.
    """

    t: tuple[float, ...]
    a: tuple[float, ...]
    b: tuple[float, ...]
    sigma: tuple[float, ...]
    beta: tuple[float, ...]
    alpha_bar: tuple[float, ...]

    def __len__(self) -> int:
        return len(self.beta)

    def cooled(self, temperature: float) -> Schedule:
        """Return the steps with so many times the noise."""
        return replace(self, sigma=tuple(temperature * sigma for sigma in self.sigma))

    def last(self, count: int) -> Schedule:
        """Return the last steps; in the training schedule, the steps that remain at x_count.

        Args:
            count: the number of steps, 1 to S.
        """
        return Schedule(*(getattr(self, field.name)[-count:] for field in fields(self)))


def build_schedule(
    config: Config,
    steps: int | str | None = None,
    schedule: Sequence[float] | None = None,
    *,
    default: str = "fast",
) -> Schedule:
    """Build the schedule of a network (paper, algorithm 2 and appendix B).

    Args:
        config: the network; its `train_schedule` is the scale, its `fast_schedule` and `schedules` came with the
            checkpoint.
        steps: "fast" selects the checkpoint's fast schedule, or the paper's of 6 steps if it has none. "full" selects
            the training schedule. A number selects the schedule of so many steps: the checkpoint's own
            (`Config.schedules`), the fast one, or the training's. If none of them is so long, 1 to 5 select levels of
            a fast schedule of six steps (`FEW_STEPS`). None selects `default`.
        schedule: betas between 0 and 1 that ascend, in the order of the diffusion, in place of `steps`. `align` places
            them on the training scale, unless they are the training schedule itself.
        default: "fast" or "full".

    Returns:
        The steps in the order of execution.

    Raises:
        InputError: a value is impossible, a beta has no position on the training scale, or `steps` and `schedule` are
            both present.
    """
    if schedule is not None:
        if steps is not None:
            raise InputError(f"steps: expected None beside a schedule, got {steps!r:.80}; pass one of the two")
        betas = _checked_betas(schedule)
        return _coefficients(betas, _positions(config, betas, "schedule"))
    steps = default if steps is None else steps
    betas, levels = _named_betas(config, steps)
    t = _positions(config, betas, f"steps={steps!r}")
    if levels is not None:  # the positions of the kept levels, without the rounding of an alignment of their own
        betas, t = merge_betas(betas, levels), tuple(t[level] for level in levels)
    return _coefficients(betas, t)


def merge_betas(betas: Sequence[float], levels: Sequence[int]) -> tuple[float, ...]:
    """Return the betas of a schedule that keeps some noise levels of another one.

    A step takes over the steps below it that are left out: its beta is ``1 - prod(1 - beta)`` over them and itself, so
    its alpha_bar does not change.

    Args:
        betas: S values between 0 and 1 in the order of the diffusion.
        levels: the kept steps, ascending, each from 0 to S-1.
    """
    first = (0, *(level + 1 for level in levels[:-1]))
    # A level that stands alone keeps the bits of its beta.
    return tuple(
        betas[end] if begin == end else 1.0 - math.prod(1.0 - beta for beta in betas[begin : end + 1])
        for begin, end in zip(first, levels, strict=True)
    )


def step_counts(config: Config) -> list[int]:
    """Return the numbers of steps that `build_schedule` accepts for a network, ascending.

    Args:
        config: the network.
    """
    return [count for count, (betas, _) in sorted(_numbered_betas(config).items()) if _is_usable(betas, config)]


def schedule_origin(config: Config, count: int) -> str:
    """Return where the schedule of a number of steps comes from: "own", "fast", "training" or "levels".

    They are `Config.schedules`, the fast schedule, the training schedule, and levels of a fast schedule of six steps.

    Args:
        config: the network.
        count: one of `step_counts`.
    """
    betas, levels = _numbered_betas(config)[count]
    if levels is not None:
        return "levels"
    if betas in config.schedules:
        return "own"
    return "fast" if betas == _fast_schedule(config) else "training"


def update_terms(config: Config, schedule: Schedule) -> NDArray[np.float64]:
    """Return the factors of x, of the network's output and of z in every step.

    They are a, b and sigma for the paper's networks, whose output is eps. For an output F with eps = p x + q F
    (`Config.preconditioning`), they are a + b p, b q and sigma.

    Args:
        config: the network.
        schedule: S steps.

    Returns:
        [S,3], float64.
    """
    p, q = np.array([config.preconditioning(alpha_bar) for alpha_bar in schedule.alpha_bar]).T
    a, b, sigma = (np.array(values) for values in (schedule.a, schedule.b, schedule.sigma))
    return np.stack([a + b * p, b * q, sigma], axis=1)


def noise_terms(config: Config, t: float) -> NDArray[np.float64]:
    """Return the factors of x, of the network's output and of z in eps itself: p, q and 0 (`update_terms`).

    Args:
        config: the network.
        t: a step of the training scale.

    Returns:
        [1,3], float64.
    """
    return np.array([[*(config.preconditioning(config.alpha_bar(t)) if config.signal_std else (0.0, 1.0)), 0.0]])


def align(betas: Sequence[float], train_betas: Sequence[float]) -> tuple[float, ...]:
    """Return the positions of betas on the training scale (paper, equation 14).

    With t such that ``alpha_bar_train[t+1] <= alpha_bar[n] <= alpha_bar_train[t]``::

        t_n = t + (sqrt(alpha_bar_train[t]) - sqrt(alpha_bar[n]))
                / (sqrt(alpha_bar_train[t]) - sqrt(alpha_bar_train[t+1]))

    Args:
        betas: the inference schedule, S values between 0 and 1 in the order of the diffusion.
        train_betas: the training schedule, T values between 0 and 1 in the order of the diffusion.

    Returns:
        t_n for each beta, in the same order, 0 <= t_n <= T-1; float64.

    Raises:
        InputError: an alpha_bar lies outside the training schedule's range.
    """
    check_levels(betas, train_betas)
    train, _ = noise_levels(train_betas)
    roots = np.sqrt(train)
    aligned = []
    for level in noise_levels(betas)[0]:
        level = min(max(level, train[-1]), train[0])
        if level == train[0]:
            aligned.append(0.0)
            continue
        t = int(np.argmax(train[1:] <= level))
        aligned.append(t + float((roots[t] - math.sqrt(level)) / (roots[t] - roots[t + 1])))
    return tuple(aligned)


_aligned = lru_cache(maxsize=32)(align)  # of tuples; a product uses the same few schedules in every call


@lru_cache(maxsize=32)
def _coefficients(betas: tuple[float, ...], t: tuple[float, ...]) -> Schedule:
    beta = np.asarray(betas)
    alpha_bar = np.cumprod(1.0 - beta)
    # 1 - alpha_bar without the subtraction, which would round to 0 for the smallest betas.
    variance = np.cumsum(beta * np.concatenate([[1.0], alpha_bar[:-1]]))
    sigma = np.sqrt(np.concatenate([[0.0], variance[:-1]]) / variance * beta)

    def executed(values: NDArray[Any]) -> tuple[float, ...]:
        return tuple(values[::-1].tolist())

    return Schedule(
        t=t[::-1],
        a=executed(1.0 / np.sqrt(1.0 - beta)),
        b=executed(-beta / np.sqrt(variance) / np.sqrt(1.0 - beta)),
        sigma=executed(sigma),
        beta=executed(beta),
        alpha_bar=executed(alpha_bar),
    )


def _paper_schedule(config: Config) -> tuple[float, ...]:
    return LARGE_FAST_SCHEDULE if len(config.train_schedule) == 200 else BASE_FAST_SCHEDULE


def _fast_schedule(config: Config) -> tuple[float, ...]:
    """Return the checkpoint's fast schedule, else the paper's, or a training schedule that is no longer than that."""
    paper = _paper_schedule(config)
    return config.fast_schedule or (config.train_schedule if len(config.train_schedule) <= len(paper) else paper)


def _numbered_betas(config: Config) -> dict[int, tuple[tuple[float, ...], tuple[int, ...] | None]]:
    """Return the betas that every number of steps selects, and the levels that it keeps of them; None for all."""
    fast = _fast_schedule(config)
    few = {count: (fast, levels) for count, levels in FEW_STEPS.items()} if len(fast) == _FEW_STEPS_OF else {}
    whole = {len(betas): (betas, None) for betas in (config.train_schedule, fast, *config.schedules)}
    return {**few, **whole}


def _named_betas(config: Config, steps: Any) -> tuple[tuple[float, ...], tuple[int, ...] | None]:
    if isinstance(steps, str) and steps in ("fast", "full"):
        return _fast_schedule(config) if steps == "fast" else config.train_schedule, None
    try:
        count = 0 if isinstance(steps, bool) else operator.index(steps)
    except TypeError:
        count = 0
    numbered = _numbered_betas(config)
    if count in numbered:
        return numbered[count]
    remedy = "; 'engine tune-steps' finds schedules of 1 to 5 steps" if count in FEW_STEPS and config.n_mels else ""
    raise InputError(f"steps: expected {_choices(config)}, got {steps!r:.80}{remedy}")


def _positions(config: Config, betas: tuple[float, ...], argument: str) -> tuple[float, ...]:
    """Return the positions of betas on the training scale; errors name the argument and list the choices."""
    if betas == config.train_schedule:
        return tuple(float(n) for n in range(len(betas)))
    _check_order(betas, argument)
    try:
        return _aligned(betas, config.train_schedule)
    except InputError as error:
        raise InputError(f"{argument}: {error}; choices: steps={_choices(config)}") from None


def _checked_betas(schedule: Any) -> tuple[float, ...]:
    expected = "schedule: expected a list of betas between 0 and 1 (exclusive)"
    try:
        values = np.asarray(schedule)
    except (TypeError, ValueError, RuntimeError) as error:  # ragged lists; tensors on another device
        raise InputError(f"{expected}, got {schedule!r:.80}") from error
    if isinstance(schedule, np.ma.MaskedArray) or values.dtype.kind not in "iuf" or values.ndim != 1:
        shape = f" of shape {values.shape}" if values.ndim else ""
        raise InputError(f"{expected}, got {type(schedule).__name__}{shape}: {schedule!r:.80}")
    if not 1 <= len(values) <= MAX_STEPS:
        raise InputError(f"{expected}, 1 to {MAX_STEPS} of them, got {len(values)}")
    betas = tuple(float(value) for value in values)
    for n, beta in enumerate(betas):
        if not 0.0 < beta < 1.0:
            raise InputError(f"{expected}, got {beta!r} at index {n}")
    return betas


def _check_order(betas: tuple[float, ...], argument: str) -> None:
    """Check that betas ascend: in another order they are aligned and executed all the same, and give noise.

    A step may have the beta of the one before it.
    """
    falls = [n for n in range(1, len(betas)) if betas[n] < betas[n - 1]]
    if not falls:
        return
    reversed_order = all(betas[n] <= betas[n - 1] for n in range(1, len(betas)))
    remedy = "reverse them: [::-1]" if reversed_order else "sort them, or pass the betas of one schedule"
    n = falls[0]
    got = f"{betas[n - 1]!r} and then {betas[n]!r} at index {n}"
    raise InputError(f"{argument}: expected betas that ascend, in the order of the diffusion, got {got}; {remedy}")


def _choices(config: Config) -> str:
    fast, train = _fast_schedule(config), config.train_schedule
    owner = "the checkpoint's own" if config.fast_schedule else "the training's" if fast == train else "the paper's"
    levels, _ = noise_levels(train)
    return ", ".join(
        [
            _ranges(step_counts(config)),
            *([f'"fast" ({len(fast)} steps, {owner})'] if _is_usable(fast, config) else []),
            f'"full" ({len(train)} steps)',
            f"betas of your own as schedule= (in Python) with alpha_bar within {levels[-1]:.7g} to {levels[0]:.7g}",
        ]
    )


def _ranges(counts: Sequence[int]) -> str:
    """Return ascending numbers in words: "1 to 6 or 50"."""
    runs: list[list[int]] = []
    for count in counts:
        if runs and count == runs[-1][-1] + 1:
            runs[-1].append(count)
        else:
            runs.append([count])
    parts = [part for run in runs for part in ([f"{run[0]} to {run[-1]}"] if len(run) > 2 else map(str, run))]
    return " or ".join([", ".join(parts[:-1])] * (len(parts) > 1) + parts[-1:])


def _is_usable(betas: tuple[float, ...], config: Config) -> bool:
    if betas == config.train_schedule:
        return True
    try:
        _check_order(betas, "")
        _aligned(betas, config.train_schedule)
    except InputError:
        return False
    return True
