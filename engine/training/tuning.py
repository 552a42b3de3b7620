"""The objective of training for few steps: spectral losses through the sampler, anchored by the paper's objective."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from engine.training.adversary import Adversary
from engine.training.gradient import Rows
from engine.training.network import DiffWave
from engine.training.objective import LEVELS, losses
from engine.training.settings import Recipe
from engine.training.spectral import SpectralLoss
from engine.training.unroll import Sampler, TuningBatch
from engine.training.unroll_settings import Unroll

# Losses beside those of the noise levels, in the order of their rows.
LOSSES = ("spectral", "adversarial", "matching", "discriminator")


class Tuning:
    """The gradient of a step of `engine.training.unroll`.

    ::

        mean of the spectral losses + anchor * mean of the noised examples' losses
            [+ adversarial * hinge + matching * distance of the discriminators' features]

    Args:
        network: its parameters get the gradient.
        recipe: with a table `unroll`.
        device: of the training.
        adversary: the discriminators of the second stage, or None. They get the gradient of their own loss.
    """

    def __init__(self, network: DiffWave, recipe: Recipe, device: torch.device, adversary: Adversary | None) -> None:
        unroll = recipe.unroll
        assert unroll is not None
        self._network, self._adversary, self._unroll, self._kind = network, adversary, unroll, recipe.training.loss
        config = recipe.network
        self._samplers = {
            steps: Sampler(config, unroll.schedule(config, steps), unroll.checkpointing) for steps in unroll.steps
        }
        self._spectral = SpectralLoss(unroll.windows, config.sample_rate).to(device)
        self._anchors = unroll.anchors(recipe.training.batch)
        self._unrolled = recipe.training.batch - self._anchors

    def parameters(self) -> Iterable[nn.Parameter]:
        """Return the parameters of the network, then those of the discriminators."""
        yield from self._network.parameters()
        if self._adversary is not None:
            yield from self._adversary.network.parameters()

    def backward(self, batch: TuningBatch) -> Tensor:
        """Add the gradient of a batch, and return its losses, [n]: those of the anchor, then LOSSES in turn."""
        results: list[Tensor] = []
        total: Tensor | float = 0.0
        if batch.anchor is not None:
            results.append(losses(self._network, batch.anchor, self._kind))
            total = total + self._unroll.anchor * results[-1].sum() / self._anchors
        audio = None
        if batch.unrolled is not None:
            audio = self._samplers[len(batch.unrolled.noise)](self._network, batch.unrolled.noise, batch.unrolled.mel)
            results.append(self._spectral(audio, batch.unrolled.audio))
            total = total + results[-1].sum() / self._unrolled
        adversary = self._adversary if batch.adversarial else None
        if adversary is not None and audio is not None and batch.unrolled is not None:
            results += adversary.opinion(audio, batch.unrolled.audio)
            total = total + self._unroll.adversarial * results[-2].sum() / self._unrolled
            total = total + self._unroll.matching * results[-1].sum() / self._unrolled
        assert isinstance(total, Tensor)
        total.backward()  # type: ignore[no-untyped-call]
        if adversary is not None and audio is not None and batch.unrolled is not None:
            results.append(adversary.loss(audio.detach(), batch.unrolled.audio))
            (results[-1].sum() / self._unrolled).backward()  # type: ignore[no-untyped-call]
        return torch.cat([result.detach() for result in results])

    def rows(self, batch: TuningBatch) -> Rows:
        """Return the noise levels of the anchor, then LEVELS plus the number in LOSSES for the others, [n]."""
        levels = [] if batch.anchor is None else [batch.anchor.level]
        if batch.unrolled is not None:
            parts = range(len(LOSSES)) if batch.adversarial else range(1)
            levels += [np.full(len(batch.unrolled.audio), LEVELS + part) for part in parts]
        return np.concatenate(levels)


def total_loss(unroll: Unroll, table: npt.NDArray[np.float64]) -> float:
    """Return the objective of a step, without the discriminators' own loss.

    Args:
        unroll: the weights.
        table: [LEVELS + len(LOSSES), 2] the sums of losses and their numbers (`Tuning.rows`).
    """
    levels = table[:LEVELS].sum(axis=0, keepdims=True)
    sums, counts = np.concatenate([levels, table[LEVELS:-1]]).T
    weights = (unroll.anchor, 1.0, unroll.adversarial, unroll.matching)
    return float(np.dot(weights, sums / np.maximum(counts, 1.0)))
