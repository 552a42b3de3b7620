"""Validation: the quality of a network in training on recordings that it is not trained on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch.func import functional_call

from engine.kernels import registry
from engine.training.blur import blurred
from engine.training.data import Clip, Corpus
from engine.training.export import checkpoint_from_state
from engine.training.objective import losses, make_batch
from engine.training.quality import log_mel_error, mos_installed, perceptual_scores, predicted_mos
from engine.training.settings import Training
from engine.training.trainer import Trainer
from engine.voice import Voice

CLIPS = 6  # vocoded by a voice, each from two mels
EXAMPLES = 48  # of the loss
STEP = 1 << 32  # seeds the examples; no training reaches this step


def validate(trainer: Trainer) -> dict[str, float]:
    """Measure the moving average of the weights on the held-out recordings.

    Returns:
        "loss", the objective over the same noised examples each time. For a voice also the scores of `vocoding_scores`
        for a few clips, and those for their blurred mels, whose names end in "_blurred". Empty without held-out
        recordings.
    """
    corpus = trainer.corpus
    if not corpus.held_out:
        return {}
    figures = {"loss": held_out_loss(trainer)}
    if trainer.recipe.network.n_mels:
        checkpoint = checkpoint_from_state(trainer.recipe, trainer.state())
        voice = Voice(checkpoint, registry.select("cpu", "auto", None), int(torch.get_num_threads()))
        clips = evenly_spaced(corpus.held_out, CLIPS)
        figures.update(vocoding_scores(voice, clips))
        scores = vocoding_scores(voice, [_with_blurred_mel(clip, i, voice) for i, clip in enumerate(clips)])
        figures.update({f"{name}_blurred": value for name, value in scores.items()})
    return figures


def _with_blurred_mel(clip: Clip, seed: int, voice: Voice) -> Clip:
    assert clip.mel is not None
    return replace(clip, mel=blurred(clip.mel, seed, voice.config.mel_kind))


def held_out_loss(trainer: Trainer) -> float:
    """Return the mean objective of the moving average of the weights.

    The examples are the same for any `training` table. Half of them are at the levels of the fast schedule, if there is
    one.
    """
    recipe = trainer.recipe
    fast_share = 0.5 if recipe.network.fast_schedule else 0.0
    training = Training(
        batch=EXAMPLES, loss=recipe.training.loss, fast_share=fast_share, drop_label=recipe.training.drop_label
    )
    recipe = replace(recipe, training=training)
    held_out = Corpus(trainer.corpus.held_out, (), trainer.corpus.classes, 0)
    total, count = 0.0, 0
    weights = dict(trainer.average)

    def network(*inputs: torch.Tensor | None) -> torch.Tensor:
        eps: torch.Tensor = functional_call(trainer.network, weights, inputs)
        return eps

    for number in range(EXAMPLES):
        batch = make_batch(held_out, recipe, STEP, [number])
        with torch.no_grad():
            loss = losses(network, batch.part(0, 1, trainer.processes.device), recipe.training.loss)
        total, count = total + float(loss.sum()), count + 1
    return total / count


def vocoding_scores(
    voice: Voice, clips: Sequence[Clip], steps: int | str | None = None, draft: str | None = None
) -> dict[str, float]:
    """Vocode clips from their mels and return the means of their scores.

    Args:
        voice: vocodes.
        clips: with their mels.
        steps: of `Voice.vocode`; None for the fast schedule, or the full one of a network that has no fast one.
        draft: of `Voice.vocode`.

    Returns:
        "log_mel_error", "pesq_wb", "stoi" and "mos". The latter three are means over the clips with enough speech, and
        missing if there are none; "mos" is also missing where DistillMOS is not installed, which `fit` says at its
        start. "not_judged" is the number of clips without enough speech for PESQ, if any.
    """
    if steps is None:
        steps = "fast" if voice.config.fast_schedule else "full"
    with_mos = mos_installed()
    scores: dict[str, list[float]] = {"pesq_wb": [], "stoi": [], "mos": [], "log_mel_error": []}
    for clip in clips:
        assert clip.mel is not None
        audio = voice.vocode(clip.mel, steps=steps, draft=draft)
        recording = clip.audio[: len(audio)]
        pesq_wb, stoi = perceptual_scores(recording, audio, voice.sample_rate)
        mos = predicted_mos(audio, voice.sample_rate) if with_mos and not math.isnan(pesq_wb) else math.nan
        error = log_mel_error(recording, audio, voice.sample_rate)
        for values, value in zip(scores.values(), (pesq_wb, stoi, mos, error), strict=True):
            if not math.isnan(value):
                values.append(value)
    figures = {name: float(np.mean(values)) for name, values in scores.items() if values}
    not_judged = len(clips) - len(scores["pesq_wb"])
    return figures | ({"not_judged": not_judged} if not_judged else {})


def evenly_spaced(clips: Sequence[Clip], count: int) -> list[Clip]:
    """Return at most `count` of the clips, evenly spaced."""
    return [clips[i * len(clips) // count] for i in range(count)] if count < len(clips) else list(clips)
