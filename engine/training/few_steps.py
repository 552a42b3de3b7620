"""The sound of a voice in a few steps, on exact and on blurred mels of held-out recordings."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial

import torch

from engine.checkpoint.load import Checkpoint
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
        The scores of `engine.training.validation.validate` after "3_steps_" for three steps, and so on. A recipe for
        drafts has them after "2_steps_on_drafts_". Empty for a recipe without a table `unroll`, and without held-out
        recordings.
    """
    unroll, clips = trainer.recipe.unroll, evenly_spaced(trainer.corpus.held_out, CLIPS)
    if unroll is None or not clips:
        return {}
    checkpoint = checkpoint_from_state(trainer.recipe, trainer.state())
    return scores_by_steps(checkpoint, sorted(set(unroll.steps)), clips, draft=unroll.draft or None)


def scores_by_steps(
    checkpoint: Checkpoint, steps: Sequence[int], clips: Sequence[Clip], workers: int = 0, draft: str | None = None
) -> dict[str, float]:
    """Return the scores of a voice in several numbers of steps, on a CPU.

    Args:
        checkpoint: the voice.
        steps: the numbers of steps.
        clips: with their mels.
        workers: processes with one thread each that share the clips; 0 for this one.
        draft: of `Voice.vocode`.

    Returns:
        See `few_step_scores`.
    """
    judge = partial(_clip_scores, checkpoint, steps, draft)
    if workers:
        context = multiprocessing.get_context("spawn")  # a process with threads and a GPU must not fork
        with ProcessPoolExecutor(workers, context) as pool:
            scores = list(pool.map(judge, clips, range(len(clips)), [1] * len(clips)))
    else:
        threads = int(torch.get_num_threads())
        scores = [judge(clip, number, threads) for number, clip in enumerate(clips)]
    names = dict.fromkeys(name for figures in scores for name in figures)
    values = {name: [figures[name] for figures in scores if name in figures] for name in names}
    return {name: sum(v) if "not_judged" in name else sum(v) / len(v) for name, v in values.items()}


def _clip_scores(
    checkpoint: Checkpoint, steps: Sequence[int], draft: str | None, clip: Clip, number: int, threads: int
) -> dict[str, float]:
    assert clip.mel is not None
    torch.set_num_threads(threads)
    voice = Voice(checkpoint, registry.select("cpu", "auto", None), threads)
    blurred_clip = replace(clip, mel=blurred(clip.mel, number, checkpoint.config.mel_kind))
    figures: dict[str, float] = {}
    for count in steps:
        name = f"{count}_steps" + ("_on_drafts" if draft else "")
        for suffix, example in (("", clip), ("_blurred", blurred_clip)):
            scores = vocoding_scores(voice, [example], count, draft)
            figures |= {f"{name}_{key}{suffix}": value for key, value in scores.items()}
    return figures
