"""The training objective of the paper: predict the noise in a noised example (equation 7, algorithm 1)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from engine.config import Config
from engine.diffusion.embedding import sinusoids
from engine.diffusion.prior import energy_std
from engine.diffusion.schedule import build_schedule
from engine.training.data import Corpus, draw, generator
from engine.training.energy import energy_weight
from engine.training.settings import Recipe

LEVELS = 6  # ranges of noise by which losses are reported, each the same number of training steps wide


@dataclass(frozen=True, eq=False)
class Batch:
    """Noised examples.

    Attributes:
        x: [B,L] sqrt(alpha_bar) x_0 + sqrt(1 - alpha_bar) eps.
        target: [B,L] the expected output of the network: eps, standard normal, or F (`Config.preconditioning`). With
            `Config.prior` eps is multiplied by std.
        weight: [B,L] the factor of errors: 1 / std with `Config.prior` (PriorGrad's loss), the inverse of the energy
            with `Training.weight`, otherwise None.
        t: [B] steps on the training scale, float64.
        embedded: [B,128] the sinusoids of t.
        mel: [B,M,T] or None.
        label: [B] or None; the number of classes stands for "no label".
        level: [B] from 0, the least noise, to LEVELS - 1.
    """

    x: Tensor
    target: Tensor
    weight: Tensor | None
    t: Tensor
    embedded: Tensor
    mel: Tensor | None
    label: Tensor | None
    level: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.x)

    @property
    def kind(self) -> int:
        """The property that decides which operations a step consists of: the number of examples."""
        return len(self)

    def tensors(self) -> list[Tensor]:
        """Return all tensors that the losses depend on, in a fixed order."""
        fields = (self.x, self.target, self.weight, self.embedded, self.mel, self.label)
        return [values for values in fields if values is not None]

    def part(self, begin: int, end: int, device: torch.device) -> Batch:
        """Return examples begin .. end - 1 on a device."""

        def cut(values: Tensor | None) -> Tensor | None:
            return None if values is None else values[begin:end].to(device)

        required = (self.x, self.target, self.t, self.embedded)
        x, target, t, embedded = (values[begin:end].to(device) for values in required)
        return Batch(x, target, cut(self.weight), t, embedded, cut(self.mel), cut(self.label), self.level[begin:end])


def make_batch(corpus: Corpus, recipe: Recipe, step: int, numbers: Sequence[int]) -> Batch:
    """Compute examples of a step's batch. They depend on the recipe's seed, the step and their number alone.

    Args:
        corpus: the recordings.
        recipe: the network, the data and the training.
        step: the number of the step, from 0.
        numbers: of the examples, each from 0 to `recipe.training.batch` - 1.
    """
    config, training = recipe.network, recipe.training
    roots = np.sqrt(np.cumprod(1.0 - np.asarray(config.train_schedule)))
    fast = build_schedule(config, "fast") if config.fast_schedule else None
    classes = len(corpus.classes)
    x, targets, weights, steps, mels, labels = [], [], [], [], [], []
    for number in numbers:
        random = generator(training.seed, step, number)
        example = draw(corpus, recipe.data, config, random)
        noise = random.standard_normal(len(example.audio), dtype=np.float32)
        if config.prior:
            std = np.repeat(energy_std(example.mel, config.energy_min), config.hop)
            noise *= std
            weights.append(1.0 / std)
        elif training.weight == "energy":
            assert example.mel is not None
            weights.append(np.repeat(energy_weight(example.mel, config), config.hop))
        # The number decides, not chance: every batch has the same share of fast levels.
        if fast is not None and number % training.batch < training.fast_share * training.batch:
            level = int(random.integers(len(fast)))
            t, root = fast.t[level], float(np.sqrt(fast.alpha_bar[level]))
        else:
            level = int(random.integers(len(roots)))
            t, root = float(level), float(roots[level])
        x.append(np.float32(root) * example.audio + np.float32(np.sqrt(1.0 - root * root)) * noise)
        p, q = config.preconditioning(root * root)
        targets.append((noise - np.float32(p) * x[-1]) / np.float32(q) if config.signal_std else noise)
        steps.append(t)
        mels.append(example.mel)
        labels.append(classes if random.random() < training.drop_label else example.label)
    return Batch(
        torch.from_numpy(np.stack(x)),
        torch.from_numpy(np.stack(targets)),
        torch.from_numpy(np.stack(weights)) if weights else None,
        torch.tensor(steps, dtype=torch.float64),
        torch.from_numpy(sinusoids(config, steps).astype(np.float32)),
        torch.from_numpy(np.stack(mels)) if config.n_mels else None,  # type: ignore[arg-type]
        torch.tensor(labels) if classes else None,
        (np.array(steps) * LEVELS / len(roots)).astype(np.int64),
    )


def losses(network: Callable[..., Tensor], batch: Batch, kind: str) -> Tensor:
    """Return the mean error of every example, [B].

    The error is |eps - eps_hat| ("l1", LMNT's) or its square ("l2", the paper's). With `Config.signal_std` it is that
    of F: the error of eps divided by q (or its square), so that every noise level counts.

    Args:
        network: a function of x, the embedded steps, the mels and the labels.
        batch: the noised examples.
        kind: "l1" or "l2".
    """
    output = network(batch.x, batch.embedded, batch.mel, batch.label)
    target = batch.target
    if batch.weight is not None:
        output, target = output * batch.weight, target * batch.weight
    error = functional.l1_loss if kind == "l1" else functional.mse_loss
    return error(output, target, reduction="none").mean(dim=1)


def level_names(config: Config) -> list[str]:
    """Return the names of the noise levels: the largest sqrt(1 - alpha_bar) of each."""
    sigma = np.sqrt(1.0 - np.cumprod(1.0 - np.asarray(config.train_schedule)))
    last = [min(-(-(k + 1) * len(sigma) // LEVELS), len(sigma)) - 1 for k in range(LEVELS)]
    return [f"{sigma[i]:.3f}" for i in last]
