"""Networks to train whose weights are random everywhere."""

from __future__ import annotations

import torch

from engine.config import Config
from engine.training.network import DiffWave


def filled(config: Config, classes: int = 0, seed: int = 3) -> DiffWave:
    """A zero would hide what is forgotten."""
    torch.manual_seed(seed)
    network = DiffWave(config, classes)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return network
