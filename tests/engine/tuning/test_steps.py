"""The search for schedules of few steps, with judges whose best schedule is known."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import Voice
from engine.checkpoint.load import Checkpoint
from engine.checks.arrays import FloatArray
from engine.config import BASE, Config
from engine.diffusion.schedule import align, build_schedule, merge_betas
from engine.errors import InputError
from engine.kernels import registry
from engine.tuning import steps
from engine.tuning.steps import MAX_LEVELS, Clip, Tuned, mean_score, searched_betas, tune_steps, with_schedules
from tests.support.networks import random_network

SMALL = Config(residual_channels=16, residual_layers=3, dilation_cycle=2, n_mels=20, upsample_strides=(4, 4))
TWELVE = tuple(np.geomspace(1e-4, 0.2, 12).tolist())
CLIP = Clip(np.zeros(64, np.float32), np.zeros((20, 4), np.float32))


class StandIn:
    """A voice whose audio is the betas that it was called with."""

    def __init__(self, config: Config) -> None:
        self.config, self.sample_rate, self.calls = config, config.sample_rate, list[tuple[float, ...]]()

    def vocode(self, mels: Sequence[FloatArray], *, schedule: Any, seed: int, energy_min: Any) -> list[Any]:
        assert seed == 5 and energy_min is None and len(mels) == 2
        self.calls.append(tuple(schedule))
        return [np.array(schedule)] * len(mels)


def tune(
    config: Config, score: Any, counts: Sequence[int] = (1, 2, 3, 4, 5), **options: Any
) -> tuple[list[Tuned], StandIn]:
    """Tune with a judge that sees the positions of the levels on the training scale."""
    voice: Any = StandIn(config)

    def judge(recording: FloatArray, audio: FloatArray, rate: int) -> float:
        assert rate == config.sample_rate and recording is CLIP.audio
        return float(score(align(audio.tolist(), config.train_schedule)))

    return tune_steps(voice, [CLIP, CLIP], judge, counts, seed=5, **options), voice


def near(*targets: float) -> Any:
    """Return a score that is highest for levels at these positions."""

    def score(t: Sequence[float]) -> float:
        return -sum(min(abs(value - target) for value in t) for target in targets) - 1e-3 * len(t)

    return score


def every_subset(betas: tuple[float, ...], count: int) -> list[tuple[float, ...]]:
    last = len(betas) - 1
    return [merge_betas(betas, (*kept, last)) for kept in itertools.combinations(range(last), count - 1)]


@settings(deadline=None, max_examples=25)
@given(st.lists(st.floats(0.0, 45.0), min_size=1, max_size=4))
def test_six_levels_are_searched_completely(targets: list[float]) -> None:
    config, score = replace(BASE, n_mels=80), near(*targets)
    tuned, voice = tune(config, score)
    assert [len(entry) for entry in tuned] == [1, 2, 3, 4, 5]
    assert len(voice.calls) == len(set(voice.calls)) == sum(math.comb(5, count - 1) for count in range(1, 6))
    for count, entry in enumerate(tuned, start=1):
        subsets = every_subset(BASE.fast_schedule or (), count)
        assert entry.betas in subsets
        best = max(score(align(betas, BASE.train_schedule)) for betas in subsets)
        assert entry.score == pytest.approx(best, abs=1e-9)
        assert entry.before is not None and entry.before <= entry.score


def test_a_longer_fast_schedule_is_searched_in_a_beam() -> None:
    config = replace(BASE, fast_schedule=TWELVE)
    fast = align(TWELVE, BASE.train_schedule)
    kept = (2, 5, 9, 11)
    tuned, voice = tune(config, near(*(fast[level] for level in kept)), (4,))
    assert len(tuned) == 1 and tuned[0].betas == merge_betas(TWELVE, kept) and tuned[0].before is None
    assert len(voice.calls) < 1 + 11 + 10 * 10 + 10 * 9
    narrow, few = tune(config, near(*(fast[level] for level in kept)), (4,), beam=1)
    assert len(few.calls) <= 1 + 11 + 10 + 9 and narrow[0].score <= tuned[0].score
    for betas in voice.calls:
        t = align(betas, BASE.train_schedule)
        assert t[-1] == pytest.approx(fast[-1]) and all(min(abs(f - value) for f in fast) < 1e-9 for value in t)


def test_a_schedule_that_is_not_worse_stays() -> None:
    own = (1e-4, 0.03, 0.6)
    config = replace(BASE, schedules=(own, (0.02,) * 9))
    t = align(own, BASE.train_schedule)
    tuned, _ = tune(config, near(t[1]), (3, 2))
    assert tuned[0] == Tuned(own, tuned[0].score, tuned[0].score) and len(tuned[1]) == 2
    table = build_schedule(BASE, 3).beta[::-1]
    even, _ = tune(BASE, lambda t: 1.0, (3,))
    assert even[0] == Tuned(table, 1.0, 1.0)
    better, _ = tune(config, near(align(BASE.fast_schedule or (), BASE.train_schedule)[3]), (3,))
    assert better[0].betas != own and better[0].before is not None and better[0].score > better[0].before


def test_schedules_that_do_not_ascend_are_left_out() -> None:
    """In a configuration betas ascend. Merging the first five levels gives more than the last beta."""
    config = replace(BASE, fast_schedule=(0.02, 0.05, 0.05, 0.05, 0.05, 0.06))
    tuned, voice = tune(config, lambda t: -t[0] if len(t) == 2 else 0.0, (2,))
    assert all(list(betas) == sorted(betas) for betas in voice.calls)
    assert len(voice.calls) < 1 + 5 and list(tuned[0].betas) == sorted(tuned[0].betas)
    with_schedules(config, tuned)


def test_searched_levels() -> None:
    assert searched_betas(BASE) == BASE.fast_schedule
    assert searched_betas(replace(BASE, fast_schedule=None)) == BASE.fast_schedule
    assert searched_betas(replace(BASE, fast_schedule=TWELVE)) == TWELVE
    short = replace(BASE, train_schedule=BASE.train_schedule[:9], fast_schedule=None)
    assert searched_betas(short) == short.train_schedule  # the paper's fast schedule leaves its scale
    middle = replace(BASE, train_schedule=BASE.train_schedule[:25], fast_schedule=None)
    thinned, train = searched_betas(middle), middle.train_schedule
    assert 6 < len(thinned) <= MAX_LEVELS
    t = align(thinned, train)
    assert t[0] == 0.0 and t[-1] == pytest.approx(24.0) and all(abs(value - round(value)) < 1e-6 for value in t)


def test_a_clip_without_a_score_is_the_worst() -> None:
    clips = [Clip(np.zeros(4, np.float32), np.zeros((1, 1), np.float32))] * 2
    audio = [np.ones(4, np.float32), 2 * np.ones(4, np.float32)]
    assert mean_score(lambda recording, a, rate: float(a[0]), clips, audio, 8000) == 1.5
    assert mean_score(lambda recording, a, rate: math.nan if a[0] > 1 else 1.0, clips, audio, 8000) == -math.inf


def test_schedules_of_other_lengths_stay() -> None:
    config = replace(BASE, schedules=((0.1, 0.2), (0.02,) * 9))
    tuned = [Tuned((0.3,), 1.0, None), Tuned((0.1, 0.3), 1.0, 0.5)]
    assert with_schedules(config, tuned).schedules == ((0.3,), (0.1, 0.3), (0.02,) * 9)
    assert with_schedules(BASE, []).schedules == ()


def test_progress_grows_to_the_end() -> None:
    for config, counts in ((BASE, (1, 2, 3, 4, 5)), (replace(BASE, fast_schedule=TWELVE), (2, 3))):
        seen: list[float] = []
        tune(config, near(3.0, 20.0), counts, progress=seen.append)
        assert seen == sorted(seen) and seen[0] > 0.0 and 0.5 < seen[-1] <= 1.0
    tune(BASE, near(3.0), progress=(seen := []).append)
    assert seen[-1] == 1.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"counts": (0,)}, "steps: expected numbers from 1 to 6, got"),
        ({"counts": (2, 7)}, "steps: expected numbers from 1 to 6, got"),
        ({"counts": ()}, "steps: expected numbers from 1 to 6, got"),
        ({"counts": (True,)}, "steps: expected numbers from 1 to 6, got"),
        ({"clips": []}, "clips: expected at least one, got none"),
        (
            {"config": replace(BASE, n_mels=0, upsample_strides=(), mel_kind=None)},
            "model: expected a network with a mel",
        ),
    ],
)
def test_impossible_searches_are_refused(options: dict[str, Any], message: str) -> None:
    voice: Any = StandIn(options.get("config", BASE))
    with pytest.raises(InputError, match=message):
        tune_steps(voice, options.get("clips", [CLIP]), lambda *_: 0.0, options.get("counts", (1,)))


def test_the_audio_is_that_of_the_voice() -> None:
    """Search with a real network: the scores are those of `Voice.vocode` with the same seed."""
    voice = Voice(Checkpoint(SMALL, random_network(SMALL, 0)), registry.select("cpu", "fp32"), 1)
    clips = [Clip(np.zeros(16 * n, np.float32), np.random.default_rng(n).random((20, n), np.float32)) for n in (4, 7)]

    def judge(recording: FloatArray, audio: FloatArray, rate: int) -> float:
        assert audio.shape == recording.shape
        return -float(np.abs(audio - 0.1).mean())

    for entry in tune_steps(voice, clips, judge, (1, 3), seed=9):
        audio = voice.vocode([clip.mel for clip in clips], schedule=entry.betas, seed=9)
        assert entry.score == mean_score(judge, clips, audio, SMALL.sample_rate)
    assert math.comb(5, 2) <= steps.BEAM  # all sets of six levels
