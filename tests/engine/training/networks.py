"""Trainable networks with random weights everywhere."""

from __future__ import annotations

import torch

from engine.config import Config
from engine.training.network import DiffWave


def random_diffwave(config: Config, classes: int = 0, seed: int = 3) -> DiffWave:
    """Return a network in which no parameter is zero: a zero would hide an error in what it multiplies."""
    torch.manual_seed(seed)
    network = DiffWave(config, classes)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return network
