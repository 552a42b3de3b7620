"""Noised examples: noise levels, labels and targets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from engine.diffusion.prior import energy_std
from engine.diffusion.schedule import build_schedule
from engine.training.data import draw, generator, read_corpus
from engine.training.objective import losses, make_batch
from tests.engine.training.recordings import digits_recipe, voice_recipe, write_digits, write_tones


def test_drop_label_is_the_share_without_a_label(tmp_path: Path) -> None:
    write_digits(tmp_path)
    for share, low, high in ((0.0, 0, 0), (0.25, 5, 27), (1.0, 60, 60)):
        recipe = digits_recipe(training={"drop_label": share})
        corpus = read_corpus(tmp_path, recipe.data, recipe.network)
        batch = make_batch(corpus, recipe, 3, range(60))
        assert batch.label is not None
        assert low <= int((batch.label == len(corpus.classes)).sum()) <= high


def test_fast_share_is_the_share_at_the_fast_levels(tmp_path: Path) -> None:
    recipe = voice_recipe(training={"fast_share": 0.5})
    corpus = read_corpus(write_tones(tmp_path, 4, 22050, 0.3), recipe.data, recipe.network)
    batches = [make_batch(corpus, recipe, step, range(4)) for step in range(20)]
    fast = build_schedule(recipe.network, 6).t
    assert {float(t) for batch in batches for t in batch.t[:2]} == set(fast)
    assert all(float(t).is_integer() for batch in batches for t in batch.t[2:])


@pytest.mark.parametrize("signal_std", [0.0, 0.14])
def test_the_target_gives_the_noise_in_x(tmp_path: Path, signal_std: float) -> None:
    recipe = digits_recipe(network={"signal_std": signal_std})
    corpus = read_corpus(write_digits(tmp_path), recipe.data, recipe.network)
    batch = make_batch(corpus, recipe, 2, [1])
    audio = draw(corpus, recipe.data, recipe.network, generator(0, 2, 1)).audio
    alpha_bar = recipe.network.alpha_bar(float(batch.t[0]))
    p, q = recipe.network.preconditioning(alpha_bar)
    eps = p * batch.x[0].numpy() + q * batch.target[0].numpy()
    expected = np.sqrt(alpha_bar) * audio + np.sqrt(1 - alpha_bar) * eps
    np.testing.assert_allclose(batch.x[0].numpy(), expected, atol=1e-5)
    assert 0.8 < eps.std() < 1.2
    for kind, error in (("l1", 0.5), ("l2", 0.25)):
        torch.testing.assert_close(losses(lambda *_: batch.target + 0.5, batch, kind), torch.tensor([error]))


def test_a_prior_scales_the_noise_and_weights_its_error(tmp_path: Path) -> None:
    """The noise has the standard deviation of its frame, and errors are measured in units of it."""
    recipe = voice_recipe(network={"mel_kind": "hifigan", "prior": True, "energy_min": 0.05})
    corpus = read_corpus(write_tones(tmp_path, 4, 22050, 0.3), recipe.data, recipe.network)
    batch = make_batch(corpus, recipe, 2, [1])
    example = draw(corpus, recipe.data, recipe.network, generator(0, 2, 1))
    alpha_bar = recipe.network.alpha_bar(float(batch.t[0]))
    assert example.mel is not None and batch.weight is not None
    std = np.repeat(energy_std(example.mel, 0.05), recipe.network.hop)
    np.testing.assert_allclose(batch.weight[0].numpy() * std, 1.0, rtol=1e-5)
    expected = np.sqrt(alpha_bar) * example.audio + np.sqrt(1 - alpha_bar) * batch.target[0].numpy()
    np.testing.assert_allclose(batch.x[0].numpy(), expected, atol=1e-5)
    assert 0.9 < (batch.target[0] * batch.weight[0]).std() < 1.1 and batch.target[0].std() < 0.95
    output = batch.target + 0.5 * torch.from_numpy(std)
    for kind, error in (("l1", 0.5), ("l2", 0.25)):
        torch.testing.assert_close(losses(lambda *_: output, batch, kind), torch.tensor([error]))
    plain = make_batch(corpus, voice_recipe(network={"mel_kind": "hifigan"}), 2, [1])
    assert plain.weight is None
