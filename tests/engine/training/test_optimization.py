"""A step of the optimizer: rate, gradient clipping, AdamW's moments, the average of the weights, the report."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engine.training.data import read_corpus
from engine.training.objective import LEVELS, losses, make_batch
from engine.training.processes import Processes
from engine.training.trainer import Trainer
from tests.engine.training.recordings import digits_recipe, write_digits

CPU = torch.device("cpu")
Tensors = dict[str, torch.Tensor]


def trainer_with(folder: Path, **training: Any) -> Trainer:
    recipe = digits_recipe(training=training)
    return Trainer(recipe, read_corpus(write_digits(folder), recipe.data, recipe.network), Processes(0, 1, CPU))


def copied(tensors: Any) -> Tensors:
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


def gradient(trainer: Trainer) -> Tensors:
    """Return the gradient of the last step, after clipping."""
    return {name: p.grad.clone() for name, p in trainer.parameters.items() if p.grad is not None}


def norm(tensors: Tensors) -> float:
    return math.sqrt(sum(float(tensor.double().square().sum()) for tensor in tensors.values()))


def test_the_rate_rises_and_falls_along_half_a_cosine(tmp_path: Path) -> None:
    trainer = trainer_with(tmp_path, steps=8, warmup=4, rate=1e-3)
    rates = []
    while not trainer.done:
        trainer.advance()
        rates.append(trainer.optimizer.param_groups[0]["lr"])
    half = math.sqrt(0.5)
    expected = [0.25, 0.5, 0.75, 1.0, 1.0, (1 + half) / 2, 0.5, (1 - half) / 2]
    assert rates == pytest.approx([1e-3 * factor for factor in expected])


def test_a_step_follows_adamw(tmp_path: Path) -> None:
    trainer = trainer_with(tmp_path, warmup=0, rate=1e-3, decay=0.1, clip=1e9)
    initial = copied(trainer.parameters)
    moment1 = {name: torch.zeros_like(tensor) for name, tensor in initial.items()}
    moment2 = copied(moment1)
    for step in (1, 2):
        before = copied(trainer.parameters)
        trainer.advance()
        rate = 1e-3 * (0.5 + 0.5 * math.cos(math.pi * (step - 1) / 6))
        for name, slope in gradient(trainer).items():
            moment1[name] = 0.9 * moment1[name] + 0.1 * slope
            moment2[name] = 0.99 * moment2[name] + 0.01 * slope**2
            change = moment1[name] / (1 - 0.9**step) / (torch.sqrt(moment2[name] / (1 - 0.99**step)) + 1e-8)
            expected = before[name] * (1 - rate * 0.1) - rate * change
            torch.testing.assert_close(trainer.parameters[name].detach(), expected, atol=1e-6, rtol=1e-5)
    state = trainer.state().tensors
    for name in initial:
        torch.testing.assert_close(state["moment1"][name], moment1[name])
        torch.testing.assert_close(state["moment2"][name], moment2[name])


def test_clipping_scales_gradients_down_only(tmp_path: Path) -> None:
    free, clipped = trainer_with(tmp_path, clip=1e9), trainer_with(tmp_path, clip=1e-3)
    free_norm, clipped_norm = free.advance().gradient, clipped.advance().gradient
    assert clipped_norm == free_norm == pytest.approx(norm(gradient(free))) and free_norm > 0.01
    assert norm(gradient(clipped)) == pytest.approx(1e-3, rel=1e-3)
    for name, slope in gradient(free).items():
        torch.testing.assert_close(gradient(clipped)[name], slope * (1e-3 / free_norm), rtol=1e-3, atol=1e-9)


def test_the_average_decays_toward_the_weights(tmp_path: Path) -> None:
    trainer = trainer_with(tmp_path, average=0.14, rate=1e-2, warmup=0)
    for decay in (1 / 11, 0.14, 0.14):  # the first step averages all weights so far
        before = copied(trainer.average)
        trainer.advance()
        for name, parameter in trainer.parameters.items():
            expected = decay * before[name] + (1 - decay) * parameter.detach()
            torch.testing.assert_close(trainer.average[name], expected, rtol=1e-5, atol=1e-7)
    assert norm({name: trainer.average[name] - p.detach() for name, p in trainer.parameters.items()}) > 1e-4


def test_losses_are_reported_by_noise_level(tmp_path: Path) -> None:
    trainer = trainer_with(tmp_path, batch=24)
    batch = make_batch(trainer.corpus, trainer.recipe, 0, range(24))
    with torch.no_grad():
        losses_of_batch = losses(trainer.network, batch.part(0, 24, CPU), "l2").double().numpy()
    report = trainer.advance()
    assert report.step == 1 and report.loss == pytest.approx(losses_of_batch.mean(), rel=1e-5)
    expected = np.zeros((LEVELS, 2))
    steps = len(trainer.recipe.network.train_schedule)
    for t, loss in zip(batch.t.tolist(), losses_of_batch, strict=True):
        expected[int(t) * LEVELS // steps] += loss, 1
    np.testing.assert_allclose(report.levels, expected, rtol=1e-5)
    low, high = (expected[level, 0] / expected[level, 1] for level in (0, -1))
    assert low > 1.2 * high  # otherwise the order of the levels would not show
