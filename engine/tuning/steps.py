"""Schedules of few steps for a network: the best of its noise levels for every number of steps, by a judge.

A schedule of N steps keeps N noise levels of the network's fast schedule and merges the betas between them
(`engine.diffusion.schedule.merge_betas`), because levels that the network was not trained on, or not used at, sound
worse. The sets of levels form a tree: every set of N levels extends one of N-1. The search keeps the best sets of each
size and extends them by every other level. With six levels it visits all of them.

The noisiest level always stays: the reverse process begins with noise alone. Few steps are found for one network,
because the error of a step depends on what the network has learnt.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from engine.checks.arrays import FloatArray
from engine.config import Config, noise_levels
from engine.diffusion.schedule import build_schedule, merge_betas, step_counts
from engine.errors import InputError
from engine.voice import Voice

BEAM = 10  # sets of levels that are extended, of every size; all of them where there are six levels
MAX_LEVELS = 12  # of a longer schedule, so many are searched
Betas = tuple[float, ...]
# The score of audio against the recording of its mel, both [L], at a rate in Hz: higher is better; NaN for no score.
Judge = Callable[[FloatArray, FloatArray, int], float]


@dataclass(frozen=True, eq=False)
class Clip:
    """A recording and its mel.

    Attributes:
        audio: float32 [T * hop].
        mel: float32 [M, T].
    """

    audio: FloatArray
    mel: FloatArray


@dataclass(frozen=True)
class Tuned:
    """The best schedule of one number of steps.

    Attributes:
        betas: the schedule, in the order of the diffusion.
        score: the mean score over the clips; -inf if the judge cannot score one of them.
        before: the score of the schedule that the network had for this number of steps; None if it had none.
    """

    betas: Betas
    score: float
    before: float | None

    def __len__(self) -> int:
        return len(self.betas)


def tune_steps(
    voice: Voice,
    clips: Sequence[Clip],
    judge: Judge,
    counts: Sequence[int] = (1, 2, 3, 4, 5),
    *,
    beam: int = BEAM,
    seed: int = 0,
    energy_min: float | None = None,
    progress: Callable[[float], None] | None = None,
) -> list[Tuned]:
    """Find the best schedule of every number of steps.

    A schedule that the network already has for a number of steps stays unless another one scores higher.

    Args:
        voice: the network; its mels are those of the clips.
        clips: recordings that the network was not trained on. A few seconds of a few of them are enough to order the
            schedules, not to judge a voice.
        judge: the score of audio against its recording.
        counts: numbers of steps, each from 1 to the number of levels (`searched_betas`).
        beam: the number of sets of levels of each size that are extended.
        seed: of the noise, which is the same for all schedules.
        energy_min: see `Voice.vocode`.
        progress: called with the fraction done.

    Returns:
        One entry per number of steps, in the order of `counts`.

    Raises:
        InputError: the network takes no mel, there are no clips, or a number of steps is impossible.
    """
    config = voice.config
    if not config.n_mels:
        raise InputError("model: expected a network with a mel, got one without")
    if not clips:
        raise InputError("clips: expected at least one, got none")
    parent = searched_betas(config)
    if not counts or not all(type(count) is int and 1 <= count <= len(parent) for count in counts):
        raise InputError(f"steps: expected numbers from 1 to {len(parent)}, got {list(counts)!r:.80}")
    scores: dict[Betas, float] = {}

    def score(betas: Betas) -> float:
        if betas not in scores:
            mels = [clip.mel for clip in clips]
            audio = voice.vocode(mels, schedule=betas, seed=seed, energy_min=energy_min)
            scores[betas] = mean_score(judge, clips, audio, voice.sample_rate)
        return scores[betas]

    report = _Report(progress, [_most_sets(len(parent), size, beam) * size for size in range(1, max(counts) + 1)])
    ordered: dict[int, list[Betas]] = {}
    best: list[tuple[int, ...]] = []
    for size in range(1, max(counts) + 1):
        candidates = _extended(best, len(parent)) if size > 1 else [(len(parent) - 1,)]
        rated = []
        for levels in candidates:
            betas = merge_betas(parent, levels)
            if list(betas) == sorted(betas):  # others cannot be recorded in a configuration
                rated.append((-score(betas), levels, betas))
                report.advance(size - 1, size)
        rated.sort()
        best = [levels for _, levels, _ in rated[:beam]]
        ordered[size] = [betas for *_, betas in rated]
    return [_chosen(config, count, ordered[count][0], score) for count in counts]


def searched_betas(config: Config) -> Betas:
    """Return the schedule whose levels are searched.

    It is the network's fast schedule, else the paper's, or the training schedule if neither lies on its scale. Of a
    longer one, `MAX_LEVELS` levels are searched, evenly spaced in the logarithm of -log(alpha_bar).

    Args:
        config: the network.
    """
    try:
        betas = build_schedule(config, "fast").beta[::-1]
    except InputError:
        betas = config.train_schedule
    if len(betas) <= MAX_LEVELS:
        return betas
    _, decays = noise_levels(betas)
    targets = np.geomspace(decays[0], decays[-1], MAX_LEVELS)
    nearest = {int(np.argmin(np.abs(np.log(decays / target)))) for target in targets}
    return merge_betas(betas, sorted(nearest))


def mean_score(judge: Judge, clips: Sequence[Clip], audio: Iterable[FloatArray], rate: int) -> float:
    """Return the mean score of the audio of all clips; -inf if the judge cannot score one of them.

    Args:
        judge: the score of audio against its recording.
        clips: the recordings.
        audio: [L] per clip, of the length of its recording.
        rate: of the audio, in Hz.
    """
    scores = [judge(clip.audio, samples, rate) for clip, samples in zip(clips, audio, strict=True)]
    return -math.inf if any(map(math.isnan, scores)) else float(np.mean(scores))


def with_schedules(config: Config, tuned: Sequence[Tuned]) -> Config:
    """Return the configuration with tuned schedules, which replace its own of the same lengths.

    Args:
        config: the network.
        tuned: the schedules.
    """
    schedules = {len(betas): betas for betas in (*config.schedules, *(entry.betas for entry in tuned))}
    return replace(config, schedules=tuple(schedules[count] for count in sorted(schedules)))


def _chosen(config: Config, count: int, found: Betas, score: Callable[[Betas], float]) -> Tuned:
    """Return the found schedule, or the one that the network has, if that does not score less."""
    if count not in step_counts(config):
        return Tuned(found, score(found), None)
    present = build_schedule(config, count).beta[::-1]
    before = score(present) if list(present) == sorted(present) else None
    betas = present if before is not None and before >= score(found) else found
    return Tuned(betas, score(betas), before)


def _extended(sets: Sequence[tuple[int, ...]], levels: int) -> list[tuple[int, ...]]:
    """Return every set with one more level, each once, in ascending order."""
    return sorted({tuple(sorted((*kept, level))) for kept in sets for level in range(levels) if level not in kept})


def _most_sets(levels: int, size: int, beam: int) -> int:
    """Return the most sets of a size that a search visits."""
    everything = math.comb(levels - 1, size - 1)
    return min(everything, beam * (levels - size + 1)) if size > 1 else 1


class _Report:
    """The progress of a search whose stages visit at most so many steps."""

    def __init__(self, progress: Callable[[float], None] | None, most: Sequence[int]) -> None:
        self._progress, self._most, self._done = progress, most, [0] * len(most)

    def advance(self, stage: int, steps: int) -> None:
        self._done[stage] += steps
        if self._progress is not None:
            self._progress((sum(self._most[:stage]) + self._done[stage]) / sum(self._most))
