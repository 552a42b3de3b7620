"""The sound of a voice in a few steps, on exact and on blurred mels of held-out recordings."""

from __future__ import annotations

from collections.abc import Sequence
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
    checkpoint: Checkpoint, steps: Sequence[int], clips: Sequence[Clip], device: str = "cpu"
) -> dict[str, float]:
    """Return the scores of a voice in several numbers of steps.

    Args:
        checkpoint: the voice.
        steps: the numbers of steps.
        clips: with their mels.
        device: "cpu" or "cuda".

    Returns:
        See `few_step_scores`.
    """
    threads = int(torch.get_num_threads())
    kind = checkpoint.config.mel_kind
    sets = {"": list(clips)}
    sets["_blurred"] = [_blurred(clip, number, kind) for number, clip in enumerate(clips)]
    figures: dict[str, float] = {}
    for count in steps:
        betas = build_schedule(checkpoint.config, count).beta[::-1]
        # `vocoding_scores` runs a voice in its fast schedule.
        tuned = replace(checkpoint, config=replace(checkpoint.config, fast_schedule=betas, schedules=()))
        voice = Voice(tuned, registry.select(device, "auto", None), threads)
        for suffix, examples in sets.items():
            scores = vocoding_scores(voice, examples)
            figures |= {f"{count}_steps_{name}{suffix}": value for name, value in scores.items()}
    return figures


def _blurred(clip: Clip, seed: int, kind: str | None) -> Clip:
    assert clip.mel is not None
    return replace(clip, mel=blurred(clip.mel, seed, kind))
