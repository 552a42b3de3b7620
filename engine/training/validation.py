"""What a network in training makes of recordings that it is not trained on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch.func import functional_call

from engine.kernels import registry
from engine.training.data import Clip, Corpus
from engine.training.export import checkpoint_of
from engine.training.objective import losses, make_batch
from engine.training.quality import log_mel_error, perceived
from engine.training.settings import Training
from engine.training.trainer import Trainer
from engine.voice import Voice

CLIPS = 6  # that a voice speaks
EXAMPLES = 48  # that the loss is taken of
STEP = 1 << 32  # of the examples' random numbers: one that no training reaches


def validate(trainer: Trainer) -> dict[str, float]:
    """Figures of the moving average of the weights on the held-out recordings; none without such recordings.

    Returns:
        "loss": the objective over the same noised examples each time. For a voice also those of `spoken`, of a few
        clips.
    """
    corpus = trainer.corpus
    if not corpus.held_out:
        return {}
    figures = {"loss": held_out_loss(trainer)}
    if trainer.recipe.network.n_mels:
        voice = Voice(checkpoint_of(trainer.recipe, trainer.state()), registry.select("cpu", "auto", None), threads())
        figures.update(spoken(voice, chosen(corpus.held_out, CLIPS)))
    return figures


def held_out_loss(trainer: Trainer) -> float:
    """The mean objective, with the moving average of the weights, over the same examples for any `training`.

    Half of them are at the fast schedule's levels, where there is one.
    """
    recipe = trainer.recipe
    fast_share = 0.5 if recipe.network.fast_schedule else 0.0
    told = recipe.training
    fixed = Training(batch=EXAMPLES, loss=told.loss, fast_share=fast_share, drop_label=told.drop_label)
    recipe = replace(recipe, training=fixed)
    held_out = Corpus(trainer.corpus.held_out, (), trainer.corpus.classes, 0)
    total, count = 0.0, 0
    weights = dict(trainer.average)

    def network(*inputs: torch.Tensor | None) -> torch.Tensor:
        eps: torch.Tensor = functional_call(trainer.network, weights, inputs)
        return eps

    for number in range(EXAMPLES):
        batch = make_batch(held_out, recipe, STEP, [number])
        with torch.no_grad():
            each = losses(network, batch.part(0, 1, trainer.processes.device), recipe.training.loss)
        total, count = total + float(each.sum()), count + 1
    return total / count


def spoken(voice: Voice, clips: Sequence[Clip]) -> dict[str, float]:
    """Means over clips, spoken again from their mels in the voice's fast schedule, or its full one if it has none.

    Returns:
        "log_mel_error", "pesq_wb" and "stoi"; the latter two of those clips that have enough speech for them, if any,
        and "not_judged", how many have not enough for PESQ, if any.
    """
    fast = voice.config.fast_schedule
    found: dict[str, list[float]] = {"pesq_wb": [], "stoi": [], "log_mel_error": []}
    for clip in clips:
        assert clip.mel is not None
        audio = voice.vocode(clip.mel, steps=len(fast) if fast else "full")
        recording = clip.audio[: len(audio)]
        given = (*perceived(recording, audio, voice.sample_rate), log_mel_error(recording, audio, voice.sample_rate))
        for of, value in zip(found.values(), given, strict=True):
            if not math.isnan(value):
                of.append(value)
    figures = {name: float(np.mean(of)) for name, of in found.items() if of}
    not_judged = len(clips) - len(found["pesq_wb"])
    return figures | ({"not_judged": not_judged} if not_judged else {})


def chosen(clips: Sequence[Clip], count: int) -> list[Clip]:
    """So many of them, spread evenly."""
    return [clips[i * len(clips) // count] for i in range(count)] if count < len(clips) else list(clips)


def threads() -> int:
    """As PyTorch uses."""
    return int(torch.get_num_threads())
