"""Errors weighted by the inverse of the mel's energy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from engine.config import Config
from engine.diffusion.prior import energy_std
from engine.training.data import read_corpus
from engine.training.energy import energy_weight
from engine.training.objective import losses, make_batch
from tests.engine.training.recordings import voice_recipe, write_tones

LOG = Config(mel_kind="tacotron")


def test_the_weight_is_the_inverse_of_the_energy() -> None:
    """Four times the magnitudes have twice the energy; beyond a tenth, quiet frames weigh the same."""
    mel = np.log(np.outer(np.linspace(0.5, 1.5, 80), [1.0, 0.25, 1e-3, 1e-5])).astype(np.float32)
    weight = energy_weight(mel, LOG)
    np.testing.assert_allclose(weight / weight[0], [1.0, 2.0, 10.0, 10.0], rtol=1e-5)
    assert weight.mean() == pytest.approx(1.0) and weight.dtype == np.float32
    np.testing.assert_allclose(energy_weight(mel - 2.0, LOG), weight, rtol=1e-5)
    prior = 1.0 / energy_std(mel, 0.0)
    assert (np.diff(prior) >= 0).all() and (np.diff(weight) >= 0).all()


def test_both_kinds_of_mel_give_the_same_weight() -> None:
    """20 dB are 0.2 in LMNT's mel."""
    random = np.random.default_rng(0)
    magnitude = np.exp(random.uniform(-3, 1, (80, 12)))
    decibels = (20 * np.log10(magnitude) + 80) / 100
    of_lmnt = energy_weight(decibels.astype(np.float32), Config(mel_kind="lmnt"))
    np.testing.assert_allclose(of_lmnt, energy_weight(np.log(magnitude).astype(np.float32), LOG), rtol=1e-4)


def test_a_batch_weights_its_errors(tmp_path: Path) -> None:
    plain, recipe = voice_recipe(), voice_recipe(training={"weight": "energy"})
    corpus = read_corpus(write_tones(tmp_path, 4, 22050, 0.3), recipe.data, recipe.network)
    batch, unweighted = (make_batch(corpus, kind, 1, range(2)) for kind in (recipe, plain))
    assert batch.mel is not None and batch.weight is not None and unweighted.weight is None
    assert torch.equal(batch.x, unweighted.x) and torch.equal(batch.target, unweighted.target)
    weight = np.repeat(energy_weight(batch.mel[1].numpy(), recipe.network), recipe.network.hop)
    np.testing.assert_array_equal(batch.weight[1].numpy(), weight)
    error = losses(lambda *_: batch.target + 1.0, batch, "l1")
    torch.testing.assert_close(error, torch.ones(2))
    zero = losses(lambda *_: torch.zeros_like(batch.target), batch, "l1")
    torch.testing.assert_close(zero, (batch.target * batch.weight).abs().mean(dim=1))
