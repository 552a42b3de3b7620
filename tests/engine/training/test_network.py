"""The trained network computes the same as the reference."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from engine.checkpoint.load import expected_shapes
from engine.config import Config
from engine.kernels import reference
from engine.training.network import DiffWave
from tests.engine.training.networks import random_diffwave
from tests.support.networks import SMALL, SMALL_UNCONDITIONAL
from tests.support.tolerances import TOLERANCES, relative_error


@pytest.mark.parametrize("config", [SMALL, SMALL_UNCONDITIONAL, replace(SMALL, step_embedding="sinusoid")])
def test_names_and_values_match_the_reference(config: Config) -> None:
    network = random_diffwave(config)
    tensors = {name: parameter.detach() for name, parameter in network.named_parameters()}
    assert {name: tuple(tensor.shape) for name, tensor in tensors.items()} == expected_shapes(config)
    random = np.random.default_rng(1)
    frames = 3
    x = torch.from_numpy(random.standard_normal((2, frames * 256)).astype(np.float32))
    mel = torch.from_numpy(random.random((2, config.n_mels, frames)).astype(np.float32)) if config.n_mels else None
    t = torch.tensor([4.25, 31.0], dtype=torch.float64)
    eps = network(x, t, mel).detach()
    exact = {name: tensor.double() for name, tensor in tensors.items()}
    for item in range(2):
        mel_of_item = None if mel is None else mel[item : item + 1].double()
        expected = reference.predict_noise(exact, config, x[item : item + 1].double(), float(t[item]), mel_of_item)
        assert relative_error(eps[item : item + 1], expected) < TOLERANCES["network_eps_fp32"]


def test_items_of_a_batch_are_independent() -> None:
    network = random_diffwave(SMALL_UNCONDITIONAL, classes=3)
    x, t, label = torch.randn(3, 200), torch.tensor([1.0, 20.0, 45.0], dtype=torch.float64), torch.tensor([0, 3, 1])
    together = network(x, t, None, label).detach()
    for i in range(3):
        alone = network(x[i : i + 1], t[i : i + 1], None, label[i : i + 1]).detach()
        assert relative_error(together[i : i + 1], alone) < TOLERANCES["network_eps_fp32"]
    relabelled = network(x, t, None, torch.tensor([0, 2, 1])).detach()
    assert torch.equal(relabelled[0], together[0]) and not torch.allclose(relabelled[1], together[1])


@pytest.mark.parametrize(("config", "classes"), [(SMALL, 0), (SMALL_UNCONDITIONAL, 3)], ids=["mel", "label"])
def test_eps_starts_as_x(config: Config, classes: int) -> None:
    torch.manual_seed(5)
    network = DiffWave(config, classes)
    x, t = torch.randn(2, 768), torch.tensor([0.5, 40.0], dtype=torch.float64)
    mel, label = (None, torch.tensor([1, 3])) if classes else (torch.rand(2, 80, 3), None)
    eps = network(x, t, mel, label).detach()
    assert (eps - x).abs().mean() < 0.05 * x.abs().mean()
    # The weights of that path are trained like the others.
    (network(x, t, mel, label) - torch.zeros_like(x)).square().mean().backward()
    assert all(
        parameter.grad is not None and parameter.grad.any() for parameter in network.output_projection.parameters()
    )


def test_other_structures_are_refused() -> None:
    with pytest.raises(ValueError, match="LMNT's structure"):
        DiffWave(replace(SMALL, padding="reflect"))
