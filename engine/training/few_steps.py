"""The sound of a voice in a few steps, on exact and on blurred mels of held-out recordings."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

import torch

from engine.checkpoint.load import Checkpoint
from engine.diffusion.schedule import build_schedule
from engine.kernels import registry
from engine.training.blur import blurred
from engine.training.data import Clip
from engine.training.export import checkpoint_from_state
from engine.training.trainer import Trainer
from engine.training.validation import CLIPS, evenly_spaced, vocoding_scores
from engine.voice import Voice


def few_step_scores(trainer: Trainer) -> dict[str, float]:
    """Measure the moving average of the weights in the numbers of steps that it is tuned for.

    Returns:
        The scores of `engine.training.validation.validate` after "3_steps_" for three steps, and so on. Empty for a
        recipe without a table `unroll`, and without held-out recordings.
    """
    unroll, clips = trainer.recipe.unroll, evenly_spaced(trainer.corpus.held_out, CLIPS)
    if unroll is None or not clips:
        return {}
    checkpoint = checkpoint_from_state(trainer.recipe, trainer.state())
    return scores_by_steps(checkpoint, sorted(set(unroll.steps)), clips)


def scores_by_steps(
    checkpoint: Checkpoint, steps: Sequence[int], clips: Sequence[Clip], workers: int = 0
) -> dict[str, float]:
    """Return the scores of a voice in several numbers of steps, on a CPU.

    Args:
        checkpoint: the voice.
        steps: the numbers of steps.
        clips: with their mels.
        workers: processes with one thread each that share the clips; 0 for this one.

    Returns:
        See `few_step_scores`.
    """
    numbers, count = range(len(clips)), len(clips)
    if workers:
        context = multiprocessing.get_context("spawn")  # a process with threads and a GPU must not fork
        with ProcessPoolExecutor(workers, context) as pool:
            scores = list(pool.map(_clip_scores, [checkpoint] * count, [steps] * count, clips, numbers, [1] * count))
    else:
        threads = int(torch.get_num_threads())
        scores = [
            _clip_scores(checkpoint, steps, clip, number, threads) for clip, number in zip(clips, numbers, strict=True)
        ]
    names = dict.fromkeys(name for figures in scores for name in figures)
    values = {name: [figures[name] for figures in scores if name in figures] for name in names}
    return {name: sum(v) if "not_judged" in name else sum(v) / len(v) for name, v in values.items()}


def _clip_scores(
    checkpoint: Checkpoint, steps: Sequence[int], clip: Clip, number: int, threads: int
) -> dict[str, float]:
    assert clip.mel is not None
    torch.set_num_threads(threads)
    blurred_clip = replace(clip, mel=blurred(clip.mel, number, checkpoint.config.mel_kind))
    figures: dict[str, float] = {}
    for count in steps:
        betas = build_schedule(checkpoint.config, count).beta[::-1]
        # `vocoding_scores` runs a voice in its fast schedule.
        tuned = replace(checkpoint, config=replace(checkpoint.config, fast_schedule=betas, schedules=()))
        voice = Voice(tuned, registry.select("cpu", "auto", None), threads)
        for suffix, example in (("", clip), ("_blurred", blurred_clip)):
            scores = vocoding_scores(voice, [example])
            figures |= {f"{count}_steps_{name}{suffix}": value for name, value in scores.items()}
    return figures
