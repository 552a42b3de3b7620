"""The second stage: discriminators learn to tell audio apart, and the state of a training holds them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from engine.errors import InputError
from engine.training.adversary import Adversary
from engine.training.data import read_corpus
from engine.training.discriminators import Discriminators, feature_distance, hinge_loss
from engine.training.fit import STATE, Options, fit
from engine.training.processes import Processes
from engine.training.resume import check_resumable
from engine.training.state import DISCRIMINATOR_PARTS, read_state
from engine.training.trainer import Trainer
from engine.training.tuning import LOSSES
from engine.training.unroll_settings import Unroll
from tests.engine.training.recordings import unrolled_recipe, write_tones

CPU = torch.device("cpu")


def test_losses_follow_their_formulas() -> None:
    opinions = [[torch.full((2, 3, 1, 1), 9.0), torch.tensor([0.5, -3.0]).view(2, 1, 1, 1)], [torch.zeros(2, 1, 4, 1)]]
    torch.testing.assert_close(hinge_loss(opinions, 1.0), torch.tensor([(0.5 + 1) / 2, (4.0 + 1) / 2]))
    torch.testing.assert_close(hinge_loss(opinions, -1.0), torch.tensor([(1.5 + 1) / 2, (0.0 + 1) / 2]))
    ones = [[torch.full((2, 1, 2, 2), 2.0), torch.ones(2, 1, 1, 1)]]
    others = [[torch.full((2, 1, 2, 2), 3.0), torch.zeros(2, 1, 1, 1)]]  # opinions do not count
    torch.testing.assert_close(feature_distance(others, ones), torch.tensor([0.5, 0.5]))


def test_discriminators_learn_to_tell_audio_apart() -> None:
    random = torch.Generator().manual_seed(0)
    tone = 0.3 * torch.sin(torch.arange(4096) / 20.0).expand(2, -1)
    noise = 0.2 * torch.randn(2, 4096, generator=random)
    adversary = Adversary(Unroll(adversarial=1.0, adversarial_rate=3e-3), 4096, CPU, seed=0)
    losses = []
    for _ in range(12):
        adversary.network.zero_grad()
        loss = adversary.loss(noise, tone).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        adversary.advance(1.0)
        losses.append(float(loss.detach()))
    assert losses[0] == pytest.approx(4.0, abs=0.3) and losses[-1] < 0.7 * losses[0]
    hinge, distance = adversary.opinion(noise.requires_grad_(), tone)
    assert (hinge > 1.1).all() and (distance > 0.3).all()
    adversary.network.zero_grad(set_to_none=True)
    (hinge + distance).sum().backward()  # type: ignore[no-untyped-call]
    assert noise.grad is not None and noise.grad.abs().max() > 0
    assert all(p.grad is None for p in adversary.network.parameters())


def test_the_initial_weights_leave_the_random_generator_alone() -> None:
    before = torch.get_rng_state()
    first, second = (Adversary(Unroll(adversarial=1.0), 4096, CPU, seed=s) for s in (1, 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(first.network.parameters(), second.network.parameters(), strict=True))


@pytest.mark.parametrize("length", [1024, 4100])
def test_any_length_has_an_opinion(length: int) -> None:
    features = Discriminators([512])(torch.randn(2, length))
    assert len(features) == 6 and all(layers[-1].shape[:2] == (2, 1) for layers in features)


def test_the_second_stage_begins_at_its_step(tmp_path: Path) -> None:
    recipe = unrolled_recipe(unroll={"adversarial": 1.0, "adversarial_after": 0.5})
    corpus = read_corpus(write_tones(tmp_path, 5, 22050, 0.3), recipe.data, recipe.network)
    trainer = Trainer(recipe, corpus, Processes(0, 1, CPU))
    initial = trainer.state().tensors["discriminators"]
    initial = {name: tensor.clone() for name, tensor in initial.items()}
    for step in range(6):
        report = trainer.advance()
        assert tuple(report.parts) == (LOSSES[:1] if step < 3 else LOSSES)
        assert np.isfinite(report.loss) and report.loss > report.parts["spectral"]
        changed = any(not torch.equal(initial[n], t) for n, t in trainer.state().tensors["discriminators"].items())
        assert changed == (step >= 3)


def test_a_state_without_discriminators_does_not_resume_a_second_stage(tmp_path: Path) -> None:
    recipe = unrolled_recipe(unroll={"adversarial": 1.0})
    data = write_tones(tmp_path / "data", 5, 22050, 0.3)
    fit(recipe, data, Options(tmp_path / "folder", stop_after=1))
    state = read_state(tmp_path / "folder" / STATE)
    corpus = read_corpus(data, recipe.data, recipe.network)
    check_resumable(state, Path("x"), recipe, corpus)
    for part in DISCRIMINATOR_PARTS:
        assert state.tensors[part]
    assert isinstance(state.tensors, dict)
    del state.tensors["discriminators"]
    with pytest.raises(InputError, match="expected a training to resume, got weights alone"):
        check_resumable(state, Path("x"), recipe, corpus)
