"""For tests of kernels: what to run on, and each network once in every form."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
import torch
from networks import Arrays, random_network

from engine.config import Config
from engine.kernels import cpu, reference


def targets(*precisions: str) -> list[Any]:
    """(isa, precision) of all tiers, slowest first, of the given precisions or of all; skipped where unsupported."""
    found = []
    for isa, supported, requires, available in cpu.tiers():
        marks = [] if supported else [pytest.mark.skip(reason=f"this processor lacks {requires}")]
        for precision in available:
            if precision in (precisions or available):
                found.append(pytest.param(isa, precision, id=f"{isa}-{precision}", marks=marks))
    return found


@cache
def weights(config: Config) -> Arrays:
    """Random weights, the same for every call with this configuration."""
    return random_network(config, seed=config.residual_channels + config.n_mels)


@cache
def exact(config: Config) -> dict[str, torch.Tensor]:
    """`weights` as float64 tensors, for the reference."""
    return reference.to_tensors(weights(config), torch.float64)


@cache
def network(config: Config, isa: str, precision: str) -> cpu.CpuNetwork:
    """`weights` packed for one tier."""
    return cpu.CpuNetwork(config, weights(config), isa, precision)


def float64(array: Any) -> Any:
    """An array as a batch of one, for the reference."""
    return None if array is None else torch.tensor(array).double()[None]


@pytest.fixture(scope="module")
def one_torch_thread() -> Iterator[None]:
    """More would wait for each other by spinning, which on a busy machine takes ten times as long."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
