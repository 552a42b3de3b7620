"""A step of the optimizer: the rate, the clipped gradient, AdamW's moments, the average of the weights, the report."""

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
from tests.engine.training.recordings import digits_recipe, spoken

CPU = torch.device("cpu")
Tensors = dict[str, torch.Tensor]


def trainer_of(folder: Path, **training: Any) -> Trainer:
    recipe = digits_recipe(training=training)
    return Trainer(recipe, read_corpus(spoken(folder), recipe.data, recipe.network), Processes(0, 1, CPU))


def copied(tensors: Any) -> Tensors:
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


def gradient(trainer: Trainer) -> Tensors:
    """What the last step went along."""
    return {name: p.grad.clone() for name, p in trainer.parameters.items() if p.grad is not None}


def norm(tensors: Tensors) -> float:
    return math.sqrt(sum(float(tensor.double().square().sum()) for tensor in tensors.values()))


def test_the_rate_rises_and_falls_along_half_a_cosine(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, steps=8, warmup=4, rate=1e-3)
    rates = []
    while not trainer.done:
        trainer.advance()
        rates.append(trainer.optimizer.param_groups[0]["lr"])
    half = math.sqrt(0.5)
    expected = [0.25, 0.5, 0.75, 1.0, 1.0, (1 + half) / 2, 0.5, (1 - half) / 2]
    assert rates == pytest.approx([1e-3 * share for share in expected])


def test_a_step_is_that_of_adamw(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, warmup=0, rate=1e-3, decay=0.1, clip=1e9)
    first = copied(trainer.parameters)
    moment1 = {name: torch.zeros_like(tensor) for name, tensor in first.items()}
    moment2 = copied(moment1)
    for step in (1, 2):
        before = copied(trainer.parameters)
        trainer.advance()
        rate = 1e-3 * (0.5 + 0.5 * math.cos(math.pi * (step - 1) / 6))
        for name, along in gradient(trainer).items():
            moment1[name] = 0.9 * moment1[name] + 0.1 * along
            moment2[name] = 0.99 * moment2[name] + 0.01 * along**2
            change = moment1[name] / (1 - 0.9**step) / (torch.sqrt(moment2[name] / (1 - 0.99**step)) + 1e-8)
            expected = before[name] * (1 - rate * 0.1) - rate * change
            torch.testing.assert_close(trainer.parameters[name].detach(), expected, atol=1e-6, rtol=1e-5)
    state = trainer.state().tensors
    for name in first:
        torch.testing.assert_close(state["moment1"][name], moment1[name])
        torch.testing.assert_close(state["moment2"][name], moment2[name])


def test_gradients_are_scaled_down_to_a_norm_and_never_up(tmp_path: Path) -> None:
    free, clipped = trainer_of(tmp_path, clip=1e9), trainer_of(tmp_path, clip=1e-3)
    wanted, found = free.advance().gradient, clipped.advance().gradient
    assert found == wanted == pytest.approx(norm(gradient(free))) and wanted > 0.01
    assert norm(gradient(clipped)) == pytest.approx(1e-3, rel=1e-3)
    for name, along in gradient(free).items():
        torch.testing.assert_close(gradient(clipped)[name], along * (1e-3 / wanted), rtol=1e-3, atol=1e-9)


def test_the_average_keeps_its_share_and_follows_the_weights(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, average=0.14, rate=1e-2, warmup=0)
    for share in (1 / 11, 0.14, 0.14):  # in the first step, that of all weights so far
        before = copied(trainer.average)
        trainer.advance()
        for name, parameter in trainer.parameters.items():
            expected = share * before[name] + (1 - share) * parameter.detach()
            torch.testing.assert_close(trainer.average[name], expected, rtol=1e-5, atol=1e-7)
    assert norm({name: trainer.average[name] - p.detach() for name, p in trainer.parameters.items()}) > 1e-4


def test_losses_are_reported_by_the_level_of_their_noise(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, batch=24)
    batch = make_batch(trainer.corpus, trainer.recipe, 0, range(24))
    with torch.no_grad():
        each = losses(trainer.network, batch.part(0, 24, CPU), "l2").double().numpy()
    report = trainer.advance()
    assert report.step == 1 and report.loss == pytest.approx(each.mean(), rel=1e-5)
    expected = np.zeros((LEVELS, 2))
    steps = len(trainer.recipe.network.train_schedule)
    for t, loss in zip(batch.t.tolist(), each, strict=True):
        expected[int(t) * LEVELS // steps] += loss, 1
    np.testing.assert_allclose(report.levels, expected, rtol=1e-5)
    assert expected[0, 0] / expected[0, 1] > 1.2 * expected[-1, 0] / expected[-1, 1]  # else their order shows nothing
