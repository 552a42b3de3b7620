"""The sampler inside the training: its steps exactly as the engine takes them, with a gradient through all of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from engine.config import Config
from engine.diffusion.embedding import sinusoids
from engine.diffusion.prior import energy_std
from engine.diffusion.schedule import Schedule, update_terms
from engine.training.data import Corpus, draw, generator
from engine.training.objective import Batch, make_batch
from engine.training.settings import Recipe


@dataclass(frozen=True, eq=False)
class Unrolled:
    """Examples to run the sampler on.

    Attributes:
        noise: [S,B,L] the audio to begin with (noise, or a noised draft), then the noise that steps 0 .. S-2 add; noise
            is scaled by the prior of a network with one.
        audio: [B,L] the recordings.
        mel: [B,M,T].
    """

    noise: Tensor
    audio: Tensor
    mel: Tensor

    def part(self, begin: int, end: int, device: torch.device) -> Unrolled:
        """Return examples begin .. end - 1 on a device."""
        noise, audio, mel = self.noise[:, begin:end], self.audio[begin:end], self.mel[begin:end]
        return Unrolled(noise.to(device), audio.to(device), mel.to(device))


@dataclass(frozen=True, eq=False)
class TuningBatch:
    """The examples of one step: noised ones for the paper's objective, then those to run the sampler on.

    Attributes:
        anchor: the noised examples, or None.
        unrolled: the others, or None.
        adversarial: whether the step belongs to the stage with discriminators.
    """

    anchor: Batch | None
    unrolled: Unrolled | None
    adversarial: bool = False

    def __len__(self) -> int:
        return self._anchors + (0 if self.unrolled is None else len(self.unrolled.audio))

    @property
    def _anchors(self) -> int:
        return 0 if self.anchor is None else len(self.anchor)

    @property
    def kind(self) -> tuple[Any, ...]:
        """The properties that decide which operations a step consists of; equal for equal graphs."""
        steps, count = (0, 0) if self.unrolled is None else self.unrolled.noise.shape[:2]
        return self._anchors, steps, count, self.adversarial

    def tensors(self) -> list[Tensor]:
        """Return all tensors that the losses depend on, in a fixed order."""
        anchor = [] if self.anchor is None else self.anchor.tensors()
        return anchor + ([] if self.unrolled is None else [*vars(self.unrolled).values()])

    def part(self, begin: int, end: int, device: torch.device) -> TuningBatch:
        """Return examples begin .. end - 1 on a device."""
        count = self._anchors
        anchor = unrolled = None
        if self.anchor is not None and begin < count:
            anchor = self.anchor.part(begin, min(end, count), device)
        if self.unrolled is not None and end > count:
            unrolled = self.unrolled.part(max(begin - count, 0), end - count, device)
        return TuningBatch(anchor, unrolled, self.adversarial)


def make_tuning_batch(corpus: Corpus, recipe: Recipe, step: int, numbers: Sequence[int]) -> TuningBatch:
    """Compute examples of a step's batch. They depend on the recipe's seed, the step and their number alone.

    Args:
        corpus: the recordings.
        recipe: with a table `unroll`.
        step: the number of the step, from 0.
        numbers: of the examples, each from 0 to `recipe.training.batch` - 1. The first ones are noised.
    """
    unroll, training = recipe.unroll, recipe.training
    assert unroll is not None
    count = unroll.anchors(training.batch)
    anchors = [number for number in numbers if number < count]
    others = [number for number in numbers if number >= count]
    steps = unroll.steps[step % len(unroll.steps)]
    return TuningBatch(
        make_batch(corpus, recipe, step, anchors) if anchors else None,
        _unrolled(corpus, recipe, step, others, steps) if others else None,
        unroll.is_adversarial(step, training.steps),
    )


def _unrolled(corpus: Corpus, recipe: Recipe, step: int, numbers: Sequence[int], steps: int) -> Unrolled:
    config, unroll = recipe.network, recipe.unroll
    assert unroll is not None
    level = unroll.schedule(config, steps).alpha_bar[0]
    noises, audio, mels = [], [], []
    for number in numbers:
        random = generator(recipe.training.seed, step, number)
        example = draw(corpus, recipe.data, config, random, bool(unroll.draft))
        assert example.mel is not None
        noise = random.standard_normal((steps, len(example.audio)), dtype=np.float32)
        if config.prior:
            noise *= np.repeat(energy_std(example.mel, config.energy_min), config.hop)
        if example.draft is not None:
            noise[0] = math.sqrt(level) * example.draft + math.sqrt(1.0 - level) * noise[0]
        noises.append(noise)
        audio.append(example.audio)
        mels.append(example.mel)
    stacked: list[npt.NDArray[np.float32]] = [np.stack(noises, axis=1), np.stack(audio), np.stack(mels)]
    return Unrolled(*map(torch.from_numpy, stacked))


class Sampler:
    """The reverse process of a few steps (paper, algorithm 2), differentiable.

    Its values are those of `engine.kernels.reference.sample` and of `Voice.vocode`.

    Args:
        config: the network.
        schedule: the steps.
        checkpointing: whether a step's activations are computed again for the gradient instead of kept.
    """

    def __init__(self, config: Config, schedule: Schedule, checkpointing: bool = False) -> None:
        self._terms = update_terms(config, schedule).tolist()
        self._embedded = torch.from_numpy(sinusoids(config, schedule.t)).float()
        self._clamp, self._checkpointing = config.clamp, checkpointing

    def __call__(self, network: Callable[..., Tensor], noise: Tensor, mel: Tensor) -> Tensor:
        """Return the audio [B,L].

        Args:
            network: a function of x, the embedded steps and the mels.
            noise: [S,B,L] the audio to begin with, then the noise of steps 0 .. S-2.
            mel: [B,M,T].
        """
        if self._embedded.device != mel.device:  # once: a captured graph must not copy from the CPU
            self._embedded = self._embedded.to(mel.device)
        x = noise[0]
        for n, (a, b, sigma) in enumerate(self._terms):
            embedded = self._embedded[n].to(mel.dtype).expand(len(x), -1)
            if self._checkpointing:
                output = checkpoint(network, x, embedded, mel, use_reentrant=False, preserve_rng_state=False)
            else:
                output = network(x, embedded, mel)
            x = a * x + b * output
            if n + 1 < len(noise):
                x = x + sigma * noise[n + 1]
            if self._clamp:
                x = x.clamp(-1.0, 1.0)
        return x
